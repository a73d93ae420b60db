"""Redis as the truth: records, leases, transcripts, events, results. The only importer of redis besides devstack."""

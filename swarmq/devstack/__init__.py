"""The embedded stack: Valkey, workers and beat under one supervisor."""

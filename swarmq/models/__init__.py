"""The nouns of swarmq: plans, options, branches, messages, events and swarms. Data only, no effects."""

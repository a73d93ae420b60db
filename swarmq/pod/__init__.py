"""The agent in a pod of its own: what it is given, and what its log tells. Needs neither broker nor Redis."""

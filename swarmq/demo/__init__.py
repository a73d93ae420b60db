"""A small repository with real defects, and the script that mends it."""

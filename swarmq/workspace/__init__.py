"""Git and processes: clones, worktrees, checkpoints, merges, shells. The only importer of git."""

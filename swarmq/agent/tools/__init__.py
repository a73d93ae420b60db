"""What an agent can do in its worktree, one module per family."""

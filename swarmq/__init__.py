"""swarmq: one large task, many agents, one merged branch."""

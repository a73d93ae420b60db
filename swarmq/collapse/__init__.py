"""Which of the running branches are stopped early: observations, a pure policy, and one look at one swarm."""

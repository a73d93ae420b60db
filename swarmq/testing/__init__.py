"""For tests of swarmq and of what is built on it: a model server that follows a script."""

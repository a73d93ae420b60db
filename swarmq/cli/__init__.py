"""The ``swarmq`` program. Modules here import heavy packages inside the functions that need them."""

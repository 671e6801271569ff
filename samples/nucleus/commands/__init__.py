"""The commands, one module each, with `SUMMARY`, `add_options` (its arguments) and `run` (returns the exit status).

A command chooses model, configuration and data, calls, and prints. What needs Keras is imported by `run` itself, so
that `--help` and a mistyped option answer at once.
"""

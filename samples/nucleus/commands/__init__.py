"""The commands, one module each: `SUMMARY`, `add_options` (what it takes) and `run` (what it does, its exit status).

A command chooses model, configuration and data, calls, and prints. What needs Keras is imported by `run` itself, so
that `--help` and a mistyped option answer at once.
"""

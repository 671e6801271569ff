"""Search for settings of a training."""

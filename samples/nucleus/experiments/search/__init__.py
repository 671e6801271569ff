"""Random search for the settings of a training."""

"""Names of a U-Net's checkpoints: `<model_dir>/<name><date>/unet_<name>_<epoch>.h5`."""

from trainkit.runs import RunFiles

RUN_FILES = RunFiles("unet")

"""The folders of training runs: `<model_dir>/<name><date>/mask_rcnn_<name>_<epoch>.h5`."""

from __future__ import annotations

from trainkit.runs import Run, RunFiles, new_run

__all__ = ["RUN_FILES", "Run", "checkpoint_template", "last_checkpoint", "new_run", "run_of"]

RUN_FILES = RunFiles("mask_rcnn")
run_of = RUN_FILES.run_of
checkpoint_template = RUN_FILES.checkpoint_template
last_checkpoint = RUN_FILES.last_checkpoint

"""Shared parts of training: settings, stages, batches, checkpoints, weights files, downloads, label images."""

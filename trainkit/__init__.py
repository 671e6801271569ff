"""What every model here needs around its training: files, downloads, weights, checkpoints, label images."""

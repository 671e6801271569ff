"""Augmentation: imgaug augmenters, copy-paste and colour transfer."""

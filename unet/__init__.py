"""Encoder-decoder segmenters (U-Nets, FCN-8s) on Keras 3."""

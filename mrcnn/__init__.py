"""Mask R-CNN with a feature pyramid, on Keras 3: TensorFlow, JAX and PyTorch."""

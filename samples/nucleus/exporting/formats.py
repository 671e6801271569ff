"""Formats of exported models; needs no Keras."""

from __future__ import annotations

# Name -> file, for the help.
FORMATS = {
    "onnx": "a file .onnx, which nucleus and ONNX Runtime run without Keras",
    "savedmodel": "a folder, TensorFlow's SavedModel",
    "bioimageio": "a file .zip for the BioImage Model Zoo's programs, with the ONNX file in it",
}

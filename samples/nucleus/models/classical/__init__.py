"""Nuclei by classical computer vision: thresholds, the distance-transform watershed and active contours.

A baseline without weights and without Keras. `model` runs five steps, one module each: grey levels with bright nuclei
(`grey`), a mask of the nuclei (`masks`), active contours that move its outline to their borders (`contours`), the
division into single nuclei (`separation`) and their scores (`scores`). `config` has the settings, `presets` the four
usual combinations.
"""

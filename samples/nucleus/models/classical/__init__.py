"""Nuclei by classical computer vision: thresholds, the distance-transform watershed and active contours.

A baseline without weights and without Keras. `model` runs five steps, one module each: grey levels in which nuclei are
bright (`grey`), a mask of the nuclei (`masks`), active contours that move its outline to their borders (`contours`), its
division into single nuclei (`separation`) and a score for each (`scores`). `config` has the settings, `presets` the four
usual combinations.
"""

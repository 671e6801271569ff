"""Nuclei by classical computer vision: thresholds, the distance-transform watershed and active contours.

A baseline that needs no weights and no Keras. An image goes through five steps, a module each: grey levels in which
nuclei are bright (`grey`), a mask of them (`threshold`), contours that move to the borders (`contours`), single
nuclei (`separation`) and a score for each (`scores`). `predictor` runs them, `config` has their settings, `presets`
the four usual combinations.
"""

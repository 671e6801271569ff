"""Data sets: reading of every layout, subsets, folds, modality, cache, fingerprint and conversion."""

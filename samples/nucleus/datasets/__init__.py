"""Data sets: layouts in, samples out; subsets, folds, modality, cache, fingerprint and conversion."""

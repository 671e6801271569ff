"""Finding and outlining nuclei in microscopy images."""

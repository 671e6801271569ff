"""Images: from a file or an array to pixels, and label images."""

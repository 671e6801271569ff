"""Models: one file a kind, wrappers around them, and the registry."""

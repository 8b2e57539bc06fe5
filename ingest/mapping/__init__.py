"""Declared mappings: from what a message says to features, by paths, casts and SQL."""

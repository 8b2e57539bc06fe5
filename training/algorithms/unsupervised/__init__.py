"""Algorithms without labels: one file each."""

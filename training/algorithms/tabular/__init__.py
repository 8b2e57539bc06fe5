"""Algorithms on tables: one file each."""

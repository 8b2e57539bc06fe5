"""Algorithms on words and sequences of tokens."""

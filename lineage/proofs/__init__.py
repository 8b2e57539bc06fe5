"""Proofs: that a log was not altered, and that an event is in it."""

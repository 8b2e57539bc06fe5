"""Frames of RecordIO, and the records of `aialgs.data` in them, many at once."""

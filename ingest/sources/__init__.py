"""The inputs that messages come from, one file each."""

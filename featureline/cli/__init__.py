"""The command line: one module per topic, one way to print and to fail."""

from featureline.cli.main import cli, main

__all__ = ["cli", "main"]

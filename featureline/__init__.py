"""The shell that composes the packages: command line, server process, demo."""

__all__: list[str] = []

"""Many pipelines from one settings file: run, steered, and asked how far they are."""

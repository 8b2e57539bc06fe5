"""Jobs: what is asked for, where they run, how they start, wait, stop, fail and are kept."""

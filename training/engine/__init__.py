"""The engine of torch algorithms: one loop, its rows, checkpoints, optimizer and processes."""

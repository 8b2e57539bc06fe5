"""What is recorded of a job: runs, code, environment, content."""

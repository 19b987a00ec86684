"""Tasks, CPUs and their registers."""

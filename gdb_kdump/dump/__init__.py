"""The child process that alone touches the dump."""

"""Where a member stands and what it means: the differences between kernels."""

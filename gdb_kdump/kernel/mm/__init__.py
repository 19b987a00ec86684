"""Pages and allocators."""

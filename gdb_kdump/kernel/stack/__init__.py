"""Stacks of tasks."""

"""Measuring any model while it runs or trains."""

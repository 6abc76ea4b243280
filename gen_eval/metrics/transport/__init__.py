"""Optimal transport: exact, sliced, and bounds by a critic."""

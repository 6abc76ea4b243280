"""Reference generators with known answers."""

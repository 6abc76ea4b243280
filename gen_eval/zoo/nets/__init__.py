"""Plain networks, by architecture."""

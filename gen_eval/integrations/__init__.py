"""Other libraries' ways in: one module each, and each asks for its library when it is imported."""

"""How fast this machine could be, how fast each stage is, and how fast the other tools are on it."""

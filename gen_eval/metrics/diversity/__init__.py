"""How varied a set is by itself, and which known modes it reaches."""

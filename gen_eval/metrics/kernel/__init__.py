"""Distances in the feature space of a kernel: MMD, KID, CMMD, energy distance."""

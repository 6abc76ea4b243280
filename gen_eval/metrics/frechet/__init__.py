"""Distances of fitted Gaussians: Fréchet, at infinitely many images, within classes, and informed of copies."""

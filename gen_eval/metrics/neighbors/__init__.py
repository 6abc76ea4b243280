"""Nearest neighbours, and the manifolds that balls to them make up: precision, recall, density, coverage."""

"""Two-sample tests: whether two sets come from one distribution, with a p-value and the power it has."""

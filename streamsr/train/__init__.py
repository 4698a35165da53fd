"""The recipe that made the weights."""

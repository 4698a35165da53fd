"""A stream's pictures on a GPU: uploaded once, cut, enlarged and composited there, and downloaded once."""

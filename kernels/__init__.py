"""CUDA kernels, one folder each: source (.cu), launcher and a readable twin in torch.

Imported as ``streamsr.kernels.<op>``. Importing this package starts nothing.
"""

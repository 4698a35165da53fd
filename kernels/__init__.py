"""CUDA kernels, one folder each: source (.cu), launcher, a readable twin in torch, and what to measure.

Imported as ``streamsr.kernels.<op>``: its functions launch the kernel, those of ``<op>.reference`` are the
twins, with the same arguments. Importing this package starts nothing. launch.py tells how they are compiled;
common.cuh is what their sources share.
"""

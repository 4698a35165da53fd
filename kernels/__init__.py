"""CUDA kernels, one folder each: source (.cu), launcher, a readable twin in torch, and what to measure.

Imported as ``streamsr.kernels.<op>``: its functions launch the kernel, those of ``<op>.reference`` are the
twins, with the same arguments. Importing this package starts nothing. launch.py tells how they are compiled;
common.cuh is what their sources share.

One source for three compilers: NVRTC (at run time, through CuPy), nvcc and, for tests, g++. So a kernel is
``extern "C" __global__ void name(Struct a)``, its only argument a struct by value, of which the launcher has
the ``np.dtype(align=True)``; it includes common.cuh alone, and its threads meet at ``__syncthreads`` only.
Each folder is named in pyproject.toml's list of packages.
"""

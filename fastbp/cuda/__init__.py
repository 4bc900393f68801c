"""The same operations on NVIDIA GPUs, compiled by numba-cuda."""

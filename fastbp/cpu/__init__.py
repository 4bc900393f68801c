"""How the CPU computes: vectors, traversals, threads, and compiled kernels on disk."""

"""What the words of kernels mean to the GPU's compiler: importing this makes them known.

`CHOSEN` are the functions that words may mean, by how a matrix is computed.
"""

from . import conversions, folds, losses, memory, numbers, places, scalars
from .places import CHOSEN

__all__ = ["CHOSEN", "conversions", "folds", "losses", "memory", "numbers", "places", "scalars"]

"""The kernels at the heart of training: softmax, sigmoid and cross-entropy, forward and backward.

Every function takes NumPy arrays and returns them. They are compiled with Numba when first called,
for each dtype; importing fastbp does not start the compiler.
"""

from .ops import *  # noqa: F403
from .ops import __all__ as _operations

__version__ = "0.1.0"

__all__ = [*_operations, "__version__"]

"""The kernels at the heart of training: softmax, sigmoid and cross-entropy, forward and backward.

Every function takes NumPy arrays and returns them. They are compiled with Numba when first called,
for each dtype; importing fastbp does not start the compiler.
"""

from .ops import (
    binary_cross_entropy,
    binary_cross_entropy_backward,
    cross_entropy,
    cross_entropy_backward,
    linear,
    linear_backward,
    linear_cross_entropy,
    linear_cross_entropy_with_grad,
    log_sigmoid,
    log_sigmoid_backward,
    log_softmax,
    log_softmax_backward,
    logsumexp,
    logsumexp_backward,
    sigmoid,
    sigmoid_backward,
    sigmoid_cross_entropy,
    sigmoid_cross_entropy_backward,
    sigmoid_cross_entropy_grad_hess,
    sigmoid_cross_entropy_with_grad,
    softmax,
    softmax_backward,
    softmax_cross_entropy,
    softmax_cross_entropy_backward,
    softmax_cross_entropy_grad_hess,
    softmax_cross_entropy_with_grad,
    squared_error,
    squared_error_backward,
    squared_error_with_grad,
)
from .startup import warmup

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "binary_cross_entropy",
    "binary_cross_entropy_backward",
    "cross_entropy",
    "cross_entropy_backward",
    "linear",
    "linear_backward",
    "linear_cross_entropy",
    "linear_cross_entropy_with_grad",
    "log_sigmoid",
    "log_sigmoid_backward",
    "log_softmax",
    "log_softmax_backward",
    "logsumexp",
    "logsumexp_backward",
    "sigmoid",
    "sigmoid_backward",
    "sigmoid_cross_entropy",
    "sigmoid_cross_entropy_backward",
    "sigmoid_cross_entropy_grad_hess",
    "sigmoid_cross_entropy_with_grad",
    "softmax",
    "softmax_backward",
    "softmax_cross_entropy",
    "softmax_cross_entropy_backward",
    "softmax_cross_entropy_grad_hess",
    "softmax_cross_entropy_with_grad",
    "squared_error",
    "squared_error_backward",
    "squared_error_with_grad",
    "verify",
    "warmup",
]


def __getattr__(name: str) -> object:
    if name == "verify":  # its module is only loaded when it is asked for
        from .testing import verify

        return verify
    raise AttributeError(f"module 'fastbp' has no attribute {name!r}")

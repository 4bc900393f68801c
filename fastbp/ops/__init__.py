"""The operations: a page each, its public functions first and then its kernels."""

from .binary_cross_entropy import binary_cross_entropy, binary_cross_entropy_backward
from .cross_entropy import cross_entropy, cross_entropy_backward
from .grad_hess import sigmoid_cross_entropy_grad_hess, softmax_cross_entropy_grad_hess
from .linear import linear, linear_backward
from .linear_cross_entropy import linear_cross_entropy, linear_cross_entropy_with_grad
from .sigmoid import log_sigmoid, log_sigmoid_backward, sigmoid, sigmoid_backward
from .sigmoid_cross_entropy import (
    sigmoid_cross_entropy,
    sigmoid_cross_entropy_backward,
    sigmoid_cross_entropy_with_grad,
)
from .softmax import (
    log_softmax,
    log_softmax_backward,
    logsumexp,
    logsumexp_backward,
    softmax,
    softmax_backward,
)
from .softmax_cross_entropy import (
    softmax_cross_entropy,
    softmax_cross_entropy_backward,
    softmax_cross_entropy_with_grad,
)
from .squared_error import squared_error, squared_error_backward, squared_error_with_grad

__all__ = [
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
]

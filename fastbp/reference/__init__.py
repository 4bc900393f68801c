"""Every operation of fastbp in plain NumPy: the specification that all kernels are tested against.

Names, arguments and defaults are those of ``fastbp``. This package imports nothing of it.

- Everything is computed and returned in float64, whatever the input's dtype; halves (float16,
  bfloat16), integers and bools become float64 too. Only a first argument (of losses: logits, probs
  or pred) of ``numpy.longdouble`` is computed and returned in long double, which on x86-64 gives
  tests of float64 kernels an oracle of 80 bits.
- Speed and memory do not matter here, cancellation does: no formula subtracts two nearly equal
  numbers that were themselves rounded, so confident rows keep their relative precision.
- Row functions see their input as ``(n_rows, n_columns)``, the columns being the elements along
  ``axis``. Within a row, m is the maximum, d_j = x_j - m, e_j = exp(d_j), and S = 1 + s the sum of
  all e, where s leaves out *one* maximum, whose e is 1. So log S = log1p(s), precise for small s
  too (Blanchard, Higham and Higham, "Accurately computing the log-sum-exp and softmax functions",
  IMA J. Numer. Anal. 41, 2021).
- A row with a NaN, with +inf or with nothing but -inf has no softmax: its m is not finite and its
  results are NaN. Only logsumexp has a limit at the infinities: +inf and -inf.
- ``out`` receives the result, converted to its dtype, and is returned. It may be an input.
"""

from .grad_hess import sigmoid_cross_entropy_grad_hess, softmax_cross_entropy_grad_hess
from .linear import linear, linear_backward
from .linear_cross_entropy import linear_cross_entropy, linear_cross_entropy_with_grad
from .probabilities import (
    binary_cross_entropy,
    binary_cross_entropy_backward,
    cross_entropy,
    cross_entropy_backward,
)
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

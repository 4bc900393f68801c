"""The one table: every operation, its judge, its inputs, its promise."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastbp import ops, reference

from . import element_losses, errors, inputs
from .inputs import N_OUT, Arguments, Inputs

BytesMoved = Callable[[int, int, int], int]

# Results of 16 bits are float32 ones, rounded once.
PROMISE_OF_HALVES = 0.501


PLAIN_VARIANTS = {"", "x", "y", "labels", "probabilities", "hard", "whole", "exact"}


@dataclass(frozen=True)
class Operation:
    """One row of the table."""

    name: str  # unique: the function, and in brackets the variant
    function: Callable[..., Any]
    reference: Callable[..., Any]
    inputs: Inputs  # (rng, (n_rows, n_columns), dtype) -> arguments; rows lie along the last axis
    # (result, exact result, exact arguments by name) -> the largest error, in `unit`
    error: Callable[[Any, Any, errors.Named], float]
    promise: float  # the largest error allowed
    unit: str
    bytes_moved: BytesMoved  # (n_rows, n_columns, itemsize) -> what must be read and written

    @property
    def is_plain(self) -> bool:
        """Whether it is called without options: its variant is one of those that have a word."""
        return self.name.partition("[")[2].removesuffix("]") in PLAIN_VARIANTS

    def call(self, arguments: Arguments) -> Any:
        """What fastbp says."""
        return self.function(*arguments.args, **arguments.kwargs)

    def named(self, arguments: Arguments) -> dict[str, Any]:
        """The arguments by name."""
        signature = inspect.signature(self.reference)
        return signature.bind(*arguments.args, **arguments.kwargs).arguments

    def exact(self, arguments: Arguments) -> Any:
        """What the reference says, in long double for float64 and in float64 for all others."""
        return self.reference(**self._exact_arguments(arguments))

    def measure(self, arguments: Arguments, result: Any) -> float:
        """The largest error of a result, in `unit`; inf if a special value is wrong."""
        return self.error(result, self.exact(arguments), self._exact_arguments(arguments))

    def promise_of(self, result: Any) -> float:
        """The largest error allowed of that result: numbers of 16 bits owe it to being rounded."""
        rounded = all(part.dtype.itemsize == 2 for part in errors.flat(result))
        return min(self.promise, PROMISE_OF_HALVES) if rounded else self.promise

    def _exact_arguments(self, arguments: Arguments) -> dict[str, Any]:
        return {name: _widened(value) for name, value in self.named(arguments).items()}


def _widened(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_widened(part) for part in value)
    if isinstance(value, np.ndarray | np.generic) and value.dtype.name in inputs.DTYPES:
        return value.astype(np.longdouble if value.dtype == np.float64 else np.float64)
    return value


# bytes moved --------------------------------------------------------------------------------------


def _matrices(n: int, per_row: int = 0) -> BytesMoved:
    """Those of n arrays (n_rows, n_columns), and of so many numbers for each row."""
    return lambda n_rows, n_columns, itemsize: (n * n_columns + per_row) * n_rows * itemsize


def _with_labels(n: int) -> BytesMoved:
    """Those of n arrays (n_rows, n_columns) and of an int64 for each row."""
    return lambda n_rows, n_columns, itemsize: (n * n_columns * itemsize + 8) * n_rows


def _products(n: int) -> BytesMoved:
    """Those of n products of linear."""
    return lambda n_rows, n_columns, itemsize: (
        n * (n_rows * n_columns + n_columns * N_OUT + n_rows * N_OUT) * itemsize
    )


# the table ----------------------------------------------------------------------------------------

ULP = "ULP"
ULP_OF_PRODUCT = "ULP of dy·f, or dy·ULP(f)"
ULP_OF_TERM = "ULP of the larger term"
ULP_OR_WEIGHTED = "ULP, or w·ULP(p)"
EPS_OF_SUMS = "eps · number of terms · Σ|terms|"
EPS_OF_LOGITS = "eps · what errors of logits make of it"

# fmt: off
PLAIN = (
    ("softmax", inputs.of_one(inputs.logits), errors.ulps_of_result, 2, ULP, _matrices(2)),
    ("softmax_backward", inputs.of_row_backward(reference.softmax),
     errors.eps_of_largest_entry, 5, "eps of the row's largest entry", _matrices(3)),
    ("log_softmax", inputs.of_one(inputs.logits), errors.ulps_of_result, 2, ULP, _matrices(2)),
    ("log_softmax_backward", inputs.of_row_backward(reference.log_softmax),
     errors.eps_of_largest_term, 5, "eps of the row's largest term", _matrices(3)),
    ("logsumexp", inputs.of_one(inputs.logits),
     errors.ulps_of_larger_term, 2, "ULP of max(|m|, log Σ)", _matrices(1, per_row=1)),
    ("logsumexp_backward", inputs.of_logsumexp_backward,
     errors.ulps_of_product, 2.5, ULP_OF_PRODUCT, _matrices(2, per_row=2)),
    ("sigmoid", inputs.of_one(inputs.values), errors.ulps_of_result, 1, ULP, _matrices(2)),
    ("sigmoid_backward[y]", inputs.of_elementwise_backward("y"),
     errors.ulps_of_product, 2.5, ULP_OF_PRODUCT, _matrices(3)),
    ("sigmoid_backward[x]", inputs.of_elementwise_backward("x"),
     errors.ulps_of_product, 3.5, ULP_OF_PRODUCT, _matrices(3)),
    ("log_sigmoid", inputs.of_one(inputs.values), errors.ulps_of_result, 1, ULP, _matrices(2)),
    ("log_sigmoid_backward", inputs.of_elementwise_backward("x"),
     errors.ulps_of_product, 2.5, ULP_OF_PRODUCT, _matrices(3)),
    ("linear", inputs.of_linear, errors.eps_of_products, 0.5, EPS_OF_SUMS, _products(1)),
    ("linear_backward", inputs.of_linear_backward,
     errors.eps_of_products_backward, 0.5, EPS_OF_SUMS, _products(2)),
    *((f"softmax_cross_entropy_grad_hess[{variant}]", inputs.of_grad_hess(variant),
       errors.ulps_of_grad_hess, 2.5, ULP_OR_WEIGHTED, _with_labels(3))
      for variant in ("exact", "xgboost,weights", "lightgbm")),
    ("sigmoid_cross_entropy_grad_hess", inputs.of_sigmoid_grad_hess,
     errors.ulps_of_sigmoid_grad_hess, 2.5, ULP_OF_TERM, _matrices(5)),
)
# fmt: on

# Each is the loss of two functions.
LINEAR_LOSSES = (
    "labels",
    "labels,out_in,weights,label_smoothing,ignored",
    "probabilities,weights,rows",
    "sparse,out_in,sum",
)

# Each is the loss of three functions.
LOSSES = (
    "labels",
    "labels,rows",
    "labels,sum",
    "labels,weights,ignored",
    "labels,label_smoothing",
    "labels,weights,label_smoothing,ignored,rows",
    "labels,z_loss",
    "labels,temperature",
    "labels,weights,softcap,temperature,z_loss,ignored,rows",
    "probabilities",
    "probabilities,rows",
    "probabilities,weights,label_smoothing",
    "probabilities,weights,softcap,temperature,z_loss",
    "sparse",
    "sparse,weights,label_smoothing,softcap,z_loss,rows",
)


def _table() -> Iterator[Operation]:
    for name, *row in (*PLAIN, *element_losses.ROWS):
        function = name.partition("[")[0]
        yield Operation(name, getattr(ops, function), getattr(reference, function), *row)  # type: ignore[arg-type]

    def loss(function: str, variant: str, *row: Any) -> Operation:
        name = f"{function}[{variant}]"
        return Operation(name, getattr(ops, function), getattr(reference, function), *row)

    for variant in LINEAR_LOSSES:
        given = inputs.of_linear_loss(variant)
        yield loss(
            "linear_cross_entropy", variant,
            given, errors.eps_of_linear_loss, 0.5, EPS_OF_LOGITS, _products(1),
        )  # fmt: skip
        yield loss(
            "linear_cross_entropy_with_grad", variant,
            given, errors.eps_of_linear_loss_and_gradients, 0.5, EPS_OF_LOGITS, _products(3),
        )  # fmt: skip

    for variant in LOSSES:
        words = set(variant.split(","))
        soft = "probabilities" in words
        changed = words & {"softcap", "temperature"}
        one_hot = "labels" in words and not words & {"label_smoothing", "z_loss", *changed}
        unit = ULP if one_hot else ULP_OF_TERM
        given, given_dloss = (inputs.of_loss(variant, dloss=dloss) for dloss in (False, True))
        read, read_and_write = (_matrices(2), _matrices(3)) if soft else map(_with_labels, (1, 2))
        # Weights add the rounding of their product and of the denominator.
        more = words & {"weights", "z_loss"} or changed
        of_loss = 2.5 if "softcap" in words else 2
        of_gradient = 6 if "softcap" in words else 3.5 if more else 2 if one_hot else 3
        yield loss(
            "softmax_cross_entropy", variant,
            given, errors.ulps_of_loss, of_loss, ULP, read,
        )  # fmt: skip
        yield loss(
            "softmax_cross_entropy_with_grad", variant,
            given, errors.ulps_of_loss_and_gradient, of_gradient, unit, read_and_write,
        )  # fmt: skip
        yield loss(
            "softmax_cross_entropy_backward", variant,
            given_dloss, errors.ulps_of_gradient, of_gradient, unit, read_and_write,
        )  # fmt: skip


OPS: dict[str, Operation] = {operation.name: operation for operation in _table()}

"""Inputs for operations, hard on purpose.

Random numbers of one size hide errors: outliers, ties, confident rows, offsets and subnormal
results are where they show.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastbp import reference

Array = NDArray[Any]
Rng = np.random.Generator
Shape = tuple[int, int]
DType = np.dtype[Any]


@dataclass(frozen=True)
class Arguments:
    """What an operation is called with."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)


Inputs = Callable[[Rng, Shape, DType], Arguments]

N_OUT = 16  # features that come out of `linear`
IGNORED = -100  # the label of ignored rows
SPARSE = 3  # classes that have a probability in sparse targets
LOSS_OPTIONS = {"label_smoothing": 0.1, "z_loss": 0.01, "softcap": 20.0, "temperature": 0.7}
KINDS_OF_ROWS = 8
# Between which two x the numbers exp(-x) are subnormal; and a scale of x that meets them.
TAILS = {
    "float32": (87.0, 104.0, 50.0),
    "float64": (708.0, 745.0, 350.0),
    "float16": (9.8, 17.0, 6.0),
    "bfloat16": (87.4, 92.0, 50.0),
}
DTYPES = tuple(TAILS)


def as_dtype(dtype: DTypeLike) -> DType:
    """One of `DTYPES`; bfloat16 by its name, too, which NumPy may not know."""
    if isinstance(dtype, str) and dtype == "bfloat16":
        try:
            import ml_dtypes
        except ImportError:
            raise ImportError("bfloat16 is a type of ml_dtypes: pip install ml_dtypes") from None
        dtype = ml_dtypes.bfloat16
    found = np.dtype(dtype)
    if found.name not in DTYPES or not found.isnative:
        raise TypeError(f"dtypes has {found}; expected {', '.join(DTYPES[:-1])} or {DTYPES[-1]}")
    return found


def logits(rng: Rng, shape: Shape, dtype: DType) -> Array:
    """Rows of eight kinds in turn, the first one drawn by chance.

    Ordinary, wide and narrow rows; confident ones (a margin of 20 to 60); ties; an offset of ±10⁴;
    probabilities that are subnormal numbers; outliers.
    """
    n_rows, n_columns = shape
    x = rng.standard_normal(shape)
    kind = (np.arange(n_rows) + rng.integers(KINDS_OF_ROWS)) % KINDS_OF_ROWS
    one = np.arange(n_rows), rng.integers(n_columns, size=n_rows)  # a column of each row

    def rows(k: int) -> Array:
        return np.asarray(kind == k)[:, None]

    x = np.where(rows(1), 100 * x, x)
    x = np.where(rows(2), 0.01 * x, x)
    x[one] += np.where(kind == 3, rng.uniform(20, 60, n_rows), 0)
    x = np.where(rows(4), np.round(x), x)
    x += np.where(rows(5), rng.choice([-1e4, 1e4], (n_rows, 1)), 0)
    low, high, _ = TAILS[dtype.name]
    x = np.where(rows(6), -rng.uniform(low, high, shape), x)
    x[one] = np.where(kind == 6, 0.1, x[one])
    x *= np.where(rows(7) & (rng.random(shape) < 0.2), 40, 1)
    return np.asarray(x, dtype)


def values(rng: Rng, shape: Shape, dtype: DType) -> Array:
    """Numbers of all sizes for elementwise functions, both tails of the sigmoid included."""
    scale = rng.choice([0.01, 1.0, 10.0, TAILS[dtype.name][2]], shape)
    return np.asarray(scale * rng.standard_normal(shape), dtype)


def upstream(rng: Rng, shape: Shape, dtype: DType, y: Array | None = None) -> Array:
    """Gradients by an output y, with outliers; every third row is one-hot, where y is largest."""
    dy = rng.standard_normal(shape) * rng.choice([0.1, 1.0, 30.0], shape, p=[0.3, 0.6, 0.1])
    if y is not None and y.size:
        one_hot = np.arange(shape[1]) == np.argmax(y, axis=1)[:, None]
        dy = np.where(rng.random((shape[0], 1)) < 1 / 3, one_hot, dy)
    return np.asarray(dy, dtype)


def labels(rng: Rng, x: Array) -> Array:
    """Class labels of logits x, in half of the rows the likeliest one."""
    n_rows, n_columns = x.shape
    label = rng.integers(n_columns, size=n_rows)
    likeliest = np.argmax(x, axis=1) if n_rows else label
    return np.asarray(np.where(rng.random(n_rows) < 0.5, likeliest, label))


def probabilities(rng: Rng, x: Array) -> Array:
    """Target probabilities of logits x, zeros among them; they do not sum to 1.

    Every third row is one-hot.
    """
    t = rng.random(x.shape) * (rng.random(x.shape) < 0.8) / max(1, x.shape[1] / 2)
    one_hot = labels(rng, x)[:, None] == np.arange(x.shape[1])
    return np.asarray(np.where(rng.random((len(x), 1)) < 1 / 3, one_hot, t), x.dtype)


def sparse_probabilities(rng: Rng, x: Array) -> tuple[Array, Array]:
    """A few classes of logits x and their probabilities; some classes are named twice.

    In every third row all but one are 0.
    """
    indices = rng.integers(x.shape[1], size=(len(x), SPARSE))
    indices[:, 0] = labels(rng, x)
    weights = rng.random(indices.shape)
    weights[rng.random(len(x)) < 1 / 3] = np.arange(SPARSE) == 0
    return indices, weights.astype(x.dtype)


# arguments ----------------------------------------------------------------------------------------


def of_one(make: Callable[[Rng, Shape, DType], Array]) -> Inputs:
    """(x,)."""
    return lambda rng, shape, dtype: Arguments((make(rng, shape, dtype),))


def of_row_backward(forward: Callable[..., Any]) -> Inputs:
    """(dy, y), y being the output of `forward`."""

    def inputs(rng: Rng, shape: Shape, dtype: DType) -> Arguments:
        y = forward(logits(rng, shape, dtype)).astype(dtype)
        return Arguments((upstream(rng, shape, dtype, y), y))

    return inputs


def of_logsumexp_backward(rng: Rng, shape: Shape, dtype: DType) -> Arguments:
    """(dy, x, y), one dy and y for each row."""
    x = logits(rng, shape, dtype)
    dy = upstream(rng, (shape[0], 1), dtype)[:, 0]
    return Arguments((dy, x, reference.logsumexp(x).astype(dtype)))


def of_elementwise_backward(saved: str) -> Inputs:
    """(dy, x) or (dy, y=sigmoid(x))."""

    def inputs(rng: Rng, shape: Shape, dtype: DType) -> Arguments:
        x = values(rng, shape, dtype)
        if saved == "y":
            x = reference.sigmoid(x).astype(dtype)
        return Arguments((upstream(rng, shape, dtype),), {saved: x})

    return inputs


def of_linear(rng: Rng, shape: Shape, dtype: DType) -> Arguments:
    """(x, weight, bias)."""
    shapes = shape, (shape[1], N_OUT), (N_OUT,)
    return Arguments(tuple(rng.standard_normal(s).astype(dtype) for s in shapes))


def of_linear_backward(rng: Rng, shape: Shape, dtype: DType) -> Arguments:
    """(dy, x, weight)."""
    shapes = (shape[0], N_OUT), shape, (shape[1], N_OUT)
    return Arguments(tuple(rng.standard_normal(s).astype(dtype) for s in shapes))


def of_linear_loss(variant: str) -> Inputs:
    """(x, weight, targets, bias) and options, which the words of `variant` name."""

    def inputs(rng: Rng, shape: Shape, dtype: DType) -> Arguments:
        n_rows, n_in = shape
        loss = of_loss(variant, dloss=False)(rng, (n_rows, N_OUT), dtype)
        targets, options = loss.args[1], dict(loss.kwargs)
        x = rng.standard_normal(shape).astype(dtype)
        if "ignore_index" in options:
            x[targets == IGNORED] = np.nan  # which must reach nothing
        weight = (rng.standard_normal((n_in, N_OUT)) * (3 / max(1, n_in) ** 0.5)).astype(dtype)
        if "out_in" in variant.split(","):
            weight, options["weight_layout"] = weight.T.copy(), "out_in"
        return Arguments((x, weight, targets, rng.standard_normal(N_OUT).astype(dtype)), options)

    return inputs


def of_loss(variant: str, *, dloss: bool) -> Inputs:
    """([dloss,] logits, targets) and options, which the words of `variant` name."""
    words = variant.split(",")

    def inputs(rng: Rng, shape: Shape, dtype: DType) -> Arguments:
        n_rows, n_columns = shape
        x = logits(rng, shape, dtype)
        targets: Any = probabilities(rng, x) if "probabilities" in words else labels(rng, x)
        options: dict[str, Any] = {}
        if "rows" in words:
            options["reduction"] = "none"
        if "sum" in words:
            options["reduction"] = "sum"
        if "sparse" in words:
            targets = sparse_probabilities(rng, x)
        options |= {option: value for option, value in LOSS_OPTIONS.items() if option in words}
        if "weights" in words:
            options["class_weight"] = rng.uniform(0.2, 3, n_columns).astype(dtype)
            options["sample_weight"] = rng.uniform(0.2, 3, n_rows).astype(dtype)
        if "ignored" in words:
            options["ignore_index"] = IGNORED
            ignored = rng.random(n_rows) < 0.3
            targets = np.where(ignored, IGNORED, targets)
            x[ignored] = np.nan  # which must reach nothing
        if not dloss:
            return Arguments((x, targets), options)
        given = rng.uniform(0.5, 2, n_rows).astype(dtype) if "rows" in words else dtype.type(0.75)
        return Arguments((given, x, targets), options)

    return inputs


def of_grad_hess(variant: str) -> Inputs:
    """(margins, labels) and options, which the words of `variant` name."""
    words = variant.split(",")

    def inputs(rng: Rng, shape: Shape, dtype: DType) -> Arguments:
        x = logits(rng, shape, dtype)
        label = labels(rng, x)
        options: dict[str, Any] = {}
        if "exact" not in words:
            options["hessian"] = words[0]
            label = label.astype(np.promote_types(dtype, np.float32))  # which is exact
        if "weights" in words:
            options["sample_weight"] = rng.uniform(0.2, 3, shape[0]).astype(dtype)
        return Arguments((x, label), options)

    return inputs


def of_sigmoid_grad_hess(rng: Rng, shape: Shape, dtype: DType) -> Arguments:
    """(margins, labels) and weights; half of the labels are 0 or 1."""
    y = rng.random(shape)
    y = np.where(rng.random(shape) < 0.5, np.round(y), y).astype(dtype)
    weight = rng.uniform(0.2, 3, shape).astype(dtype)
    return Arguments((values(rng, shape, dtype), y), {"sample_weight": weight})

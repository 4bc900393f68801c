"""Running the table on this machine, and checking gradients of a user's own layers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .errors import finfo
from .inputs import as_dtype
from .operations import OPS

# For machines where long double is no wider than float64: the reference's own error there.
ERROR_OF_REFERENCE = 3.0

# Masked tails, whole vectors, and enough for several threads.
VERIFIED_SHAPES = ((3, 1), (7, 2), (64, 10), (16, 129), (9, 1000), (48, 1000))


@dataclass(frozen=True)
class Verified:
    """What `verify` found out about one operation in one dtype."""

    operation: str
    dtype: str
    error: float  # the largest that was met
    promise: float
    unit: str

    @property
    def ok(self) -> bool:
        """Whether the promise was kept; NaN keeps none."""
        return self.error <= self.promise


def verify(
    names: Iterable[str] | None = None,
    dtypes: Iterable[DTypeLike] = ("float32", "float64"),
) -> list[Verified]:
    """Measure every operation on this machine against the reference.

    Parameters
    ----------
    names : iterable of str, optional
        Which operations of `OPS`; all of them if not given.
    dtypes : iterable of dtype
        Out of float32, float64, float16 and bfloat16 of `ml_dtypes`, which may be named.

    Returns
    -------
    list of Verified
        One for each operation and dtype, with its largest error and `ok`.

    Raises
    ------
    KeyError
        If a name is not in `OPS`.
    TypeError
        If a dtype is another one.
    ImportError
        If bfloat16 is named and `ml_dtypes` is not installed.

    Notes
    -----
    The inputs are the same on every machine. A float64 result is judged in long double; where that
    is no wider than float64, three units are allowed for the error of the reference itself. Of 16
    bits the results are within half an ULP and little more, but for losses, which are float32.

    Examples
    --------
    >>> all(row.ok for row in fastbp.verify(["softmax"]))
    True
    """
    rows = []
    kinds = [as_dtype(dtype) for dtype in dtypes]
    for name in OPS if names is None else names:
        operation = OPS[name]
        for dtype in kinds:
            worst = 0.0
            for seed, shape in enumerate(VERIFIED_SHAPES):
                arguments = operation.inputs(np.random.default_rng(seed), shape, dtype)
                result = operation.call(arguments)
                error = operation.measure(arguments, result)
                worst = error if error > worst or np.isnan(error) else worst
            promise = operation.promise_of(result) + error_of_reference(dtype)
            rows.append(Verified(name, dtype.name, worst, promise, operation.unit))
    return rows


def error_of_reference(dtype: np.dtype[Any]) -> float:
    """What a measured error may owe to the reference."""
    judge_is_wider = np.finfo(np.longdouble).eps < finfo(dtype).eps
    return 0.0 if judge_is_wider else ERROR_OF_REFERENCE


# gradients ----------------------------------------------------------------------------------------


def gradcheck(
    layer: Any,
    x: ArrayLike,
    targets: ArrayLike | None = None,
    *,
    step: float = 1e-5,
    rtol: float = 1e-6,
    atol: float = 1e-8,
    seed: int = 0,
) -> float:
    """Compare a layer's backward pass with central differences of its forward pass.

    What is differentiated is Σ dy·forward(x), for a random dy, by every element of x and of the
    layer's parameters.

    Parameters
    ----------
    layer : object
        Has ``forward(x)`` and ``backward(dy)``, and may have ``params`` and ``grads``, dicts of
        arrays by name; or a loss, which has ``forward(x, targets)`` and ``backward(dloss)``.
        Parameters must be float64 and are changed in place while they are differentiated.
    x : array_like
        The input, taken as float64. Choose one without kinks (ReLU at 0) within `step`.
    targets : array_like, optional
        Given to the forward pass of a loss.
    step : float
        How far the differences reach, times max(1, |value|).
    rtol, atol : float
        A derivative may differ by atol + rtol·(the largest one of its array).
    seed : int
        Of dy.

    Returns
    -------
    float
        The largest difference, relative to what is allowed: at most 1.

    Raises
    ------
    AssertionError
        If a derivative differs by more; the message names the array, the element and both values.
    TypeError
        If a parameter is not float64, whose differences would say nothing.

    Examples
    --------
    >>> from fastbp import layers, testing
    >>> testing.gradcheck(layers.Sigmoid(), [[0.5, -1.0]]) <= 1
    True
    """
    x = np.array(x, np.float64)
    params: dict[str, NDArray[Any]] = dict(getattr(layer, "params", {}))
    for name, param in params.items():
        if param.dtype != np.float64:
            raise TypeError(f"params[{name!r}] has dtype {param.dtype}; expected float64")
    inputs = (x,) if targets is None else (x, targets)
    y = np.asarray(layer.forward(*inputs))
    dy = np.random.default_rng(seed).standard_normal(y.shape)[()]
    found = {"x": np.array(layer.backward(dy))}
    # Copies, as a layer may reuse its arrays.
    found |= {name: np.array(layer.grads[name]) for name in params}

    worst = 0.0
    for name, values_ in {"x": x, **params}.items():
        gradient = found[name]
        if gradient.shape != values_.shape:
            raise AssertionError(
                f"the gradient of {name} has shape {gradient.shape}; expected {values_.shape}"
            )
        numeric = np.empty(values_.shape, np.float64)
        for i in np.ndindex(values_.shape):
            saved = values_[i]
            h = step * max(1.0, abs(float(saved)))
            values_[i] = saved + h
            above = np.sum(dy * layer.forward(*inputs))
            values_[i] = saved - h
            below = np.sum(dy * layer.forward(*inputs))
            values_[i] = saved
            numeric[i] = (above - below) / (2 * h)
        allowed = atol + rtol * float(np.abs(numeric).max(initial=0.0))
        off = np.abs(gradient - numeric) / allowed
        if off.size:
            i = np.unravel_index(int(np.argmax(off)), off.shape)
            if not off[i] <= 1:  # written so that NaN fails too
                raise AssertionError(
                    f"the gradient of {name} at {tuple(int(k) for k in i)} is {gradient[i]}; "
                    f"finite differences give {numeric[i]}"
                )
            worst = max(worst, float(off[i]))
    layer.forward(*inputs)  # leaves the layer as the first forward pass did
    return worst

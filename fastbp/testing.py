"""The one table of operations, from which tests, `fastbp verify` and the benchmarks all run.

* `OPS` says of every operation by which reference it is judged, on which inputs, how its error is
  measured, how large that may be, and how many bytes it has to move.
* `verify` runs the table on this machine.
* `gradcheck` compares a layer's backward pass with finite differences of its forward pass.

Inputs are hard on purpose: see `logits`. An exact value comes from `fastbp.reference`, computed in
float64 for float32 and in long double for float64.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import ops, reference

__all__ = ["OPS", "Arguments", "Operation", "Verified", "gradcheck", "ulps", "verify"]

Array = NDArray[Any]
Rng = np.random.Generator
Shape = tuple[int, int]


@dataclass(frozen=True)
class Arguments:
    """What an operation is called with."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Operation:
    """One row of the table."""

    name: str  # unique; variants of a function in brackets, as "softmax_cross_entropy[labels]"
    function: Callable[..., Any]
    reference: Callable[..., Any]
    # (rng, (n_rows, n_columns), dtype) -> arguments; rows lie along the last axis
    inputs: Callable[[Rng, Shape, np.dtype[Any]], Arguments]
    # (result, exact result, exact arguments by name) -> the largest error, in `unit`
    error: Callable[[Any, Any, dict[str, Any]], float]
    promise: float  # the largest error allowed
    unit: str
    # (n_rows, n_columns, itemsize) -> bytes that must be read and written
    bytes_moved: Callable[[int, int, int], int]

    def call(self, arguments: Arguments) -> Any:
        """What fastbp says."""
        return self.function(*arguments.args, **arguments.kwargs)

    def named(self, arguments: Arguments) -> dict[str, Any]:
        """The arguments by name."""
        bound = inspect.signature(self.reference).bind(*arguments.args, **arguments.kwargs)
        return bound.arguments

    def measure(self, arguments: Arguments, result: Any) -> float:
        """The largest error of a result, in the operation's unit; inf or NaN if it is all wrong."""
        wide = {name: _wider(value) for name, value in self.named(arguments).items()}
        return self.error(result, self.reference(**wide), wide)


def _wider(value: Any) -> Any:
    """Floats in the precision in which the reference is to compute; anything else as it is."""
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype == np.float64:
            return value.astype(np.longdouble)
        if value.dtype == np.float32:
            return value.astype(np.float64)
    return value


# errors ----------------------------------------------------------------------------------------


def spacing(scale: Array, dtype: np.dtype[Any]) -> Array:
    """Distance of two neighbours of that dtype at `scale`, which may have more digits."""
    info = np.finfo(dtype)
    _, exponent = np.frexp(np.minimum(np.abs(scale), info.max))
    lowest = np.maximum(exponent - 1, info.minexp) - info.nmant
    return np.asarray(np.ldexp(np.ones_like(scale), lowest))


def errors(actual: Any, exact: Any, unit: Array) -> Array:
    """|actual - exact| / unit; inf where one of them alone is infinite or NaN."""
    actual, exact = np.asarray(actual), np.asarray(exact)
    if actual.shape != exact.shape:
        raise AssertionError(f"the result has shape {actual.shape}; expected {exact.shape}")
    with np.errstate(all="ignore"):
        rounded = exact.astype(actual.dtype)
        error = np.abs(actual.astype(exact.dtype) - exact) / unit
    same = (actual == rounded) | (np.isnan(actual) & np.isnan(rounded))
    finite = np.isfinite(actual) & np.isfinite(rounded)
    return np.asarray(np.where(finite, error, np.where(same, 0.0, np.inf)))


def ulps(actual: Any, exact: Any, scale: Any = None) -> Array:
    """Errors of `actual` in spacings of its dtype at `scale` (at `exact`, if there is none)."""
    scale = np.asarray(exact if scale is None else scale)
    return errors(actual, exact, spacing(scale, np.asarray(actual).dtype))


def eps_of_largest(actual: Any, exact: Any, terms: Array) -> Array:
    """Errors in eps of the largest of each row's `terms`."""
    info = np.finfo(np.asarray(actual).dtype)
    largest = np.max(np.abs(terms), axis=-1, keepdims=True, initial=0)
    return errors(actual, exact, np.maximum(largest * info.eps, info.smallest_subnormal))


def largest(error: Array) -> float:
    """The largest error, 0 of none."""
    return float(np.max(error, initial=0))


def ulps_of_result(result: Any, exact: Any, _named: dict[str, Any]) -> float:
    return largest(ulps(result, exact))


def ulps_of_results(result: Any, exact: Any, _named: dict[str, Any]) -> float:
    return max(largest(ulps(r, e)) for r, e in zip(result, exact, strict=True))


def ulps_of_product(result: Any, exact: Any, named: dict[str, Any]) -> float:
    """dy times a function that, where its value is subnormal, is known to half a spacing only."""
    dy = np.abs(named["dy"])
    if dy.ndim < np.ndim(exact):  # one for each row
        dy = dy[:, None]
    tiny = np.finfo(np.asarray(result).dtype).smallest_subnormal
    unit = np.maximum(spacing(np.asarray(exact), np.asarray(result).dtype), dy * tiny)
    return largest(errors(result, exact, unit))


def ulps_of_larger_term(result: Any, exact: Any, named: dict[str, Any]) -> float:
    """logsumexp is a sum, m + log Σ exp(x - m), in which all digits may cancel."""
    x = named["x"]
    m = np.max(x, axis=-1, initial=-np.inf)
    with np.errstate(all="ignore"):
        log_sum = np.log(np.sum(np.exp(x - m[..., None]), axis=-1))
    terms = np.fmax(np.where(np.isfinite(m), np.abs(m), 0), log_sum)
    return largest(ulps(result, exact, terms))


def eps_of_largest_entry(result: Any, exact: Any, _named: dict[str, Any]) -> float:
    return largest(eps_of_largest(result, exact, exact))


def eps_of_largest_term(result: Any, exact: Any, named: dict[str, Any]) -> float:
    """dx = dy - exp(y) Σ dy may cancel everywhere, so the row's largest term is what counts.

    Where exp(y) > 1/2 the terms are those of (1 - exp(y)) dy - exp(y) Σ_others dy: a confident row
    with the dy of a cross-entropy must not lose its digits.
    """
    dy, y = named["dy"], named["y"]
    p = np.exp(y)
    total = np.sum(dy, axis=-1, keepdims=True)
    likely = p > 0.5
    kept = np.where(likely, -np.expm1(y) * dy, dy)
    taken = p * np.where(likely, total - dy, total)
    return largest(eps_of_largest(result, exact, np.maximum(np.abs(kept), np.abs(taken))))


def ulps_of_gradient(result: Any, exact: Any, named: dict[str, Any]) -> float:
    """p Σu - u, u being the weighted targets: its terms may cancel, unless u is one-hot."""
    u = _weighted_targets(named)
    several = np.count_nonzero(u, axis=-1, keepdims=True) > 1
    return largest(ulps(result, exact, np.maximum(np.abs(exact), np.where(several, u, 0))))


def ulps_of_loss_and_gradient(result: Any, exact: Any, named: dict[str, Any]) -> float:
    return max(largest(ulps(result[0], exact[0])), ulps_of_gradient(result[1], exact[1], named))


def _weighted_targets(named: dict[str, Any]) -> Array:
    """u (n_rows, n_columns): by how much each log-probability counts in the loss."""
    logits, targets = named["logits"], named["targets"]
    n_rows, n_columns = logits.shape
    t = targets
    ignored = np.zeros((n_rows, 1), bool)
    share = np.ones(n_rows)
    class_weight = named.get("class_weight")
    if targets.dtype.kind in "iu":
        t = (targets[:, None] == np.arange(n_columns)).astype(logits.dtype)
        ignored = targets[:, None] == named.get("ignore_index", n_columns)
        if class_weight is not None:
            share = np.sum(t * class_weight, axis=1)
    smoothing = named.get("label_smoothing", 0.0)
    u = (1 - smoothing) * t + smoothing / max(n_columns, 1)
    if class_weight is not None:
        u = u * class_weight
    if named.get("sample_weight") is not None:
        u = u * named["sample_weight"][:, None]
        share = share * named["sample_weight"]
    u = np.where(ignored, 0, u)
    if named.get("reduction", "mean") == "mean":
        u = u / np.sum(np.where(ignored[:, 0], 0, share))
    return np.asarray(np.abs(u * np.reshape(named.get("dloss", 1.0), (-1, 1))))


class _ErrorOfProducts:
    """Errors of sums of products in eps of (number of terms) · Σ|terms|: any order is within 1/2.

    That is all that can be said of a BLAS library's products.
    """

    def linear(self, result: Any, exact: Any, named: dict[str, Any]) -> float:
        x, weight, bias = np.abs(named["x"]), np.abs(named["weight"]), np.abs(named["bias"])
        return self.ratio(result, exact, x @ weight + bias, x.shape[-1] + 1)

    def linear_backward(self, result: Any, exact: Any, named: dict[str, Any]) -> float:
        dy, x, weight = np.abs(named["dy"]), np.abs(named["x"]), np.abs(named["weight"])
        n_rows = len(x)
        return max(
            self.ratio(result[0], exact[0], dy @ weight.T, dy.shape[1]),
            self.ratio(result[1], exact[1], x.T @ dy, n_rows),
            self.ratio(result[2], exact[2], np.sum(dy, axis=0), n_rows),
        )

    def ratio(self, actual: Array, exact: Array, terms: Array, n_terms: int) -> float:
        info = np.finfo(actual.dtype)
        unit = np.maximum(terms * (n_terms * info.eps), info.smallest_subnormal)
        return largest(errors(actual, exact, unit))


_of_products = _ErrorOfProducts()


# inputs ----------------------------------------------------------------------------------------


def logits(rng: Rng, shape: Shape, dtype: np.dtype[Any]) -> Array:
    """Rows of eight kinds in turn, the first drawn by chance.

    Ordinary, wide and narrow ones; confident ones (a margin of 20 to 60); ties; an offset of ±10⁴;
    probabilities that are subnormal numbers; and outliers.
    """
    n_rows, n_columns = shape
    x = rng.standard_normal(shape)
    kind = (np.arange(n_rows) + rng.integers(8)) % 8
    x[kind == 1] *= 100
    x[kind == 2] *= 0.01
    chosen = np.arange(n_rows), rng.integers(n_columns, size=n_rows)
    x[chosen] += np.where(kind == 3, rng.uniform(20, 60, n_rows), 0)
    x[kind == 4] = np.round(x[kind == 4])
    x[kind == 5] += rng.choice([-1e4, 1e4], (np.count_nonzero(kind == 5), 1))
    low, high = (87, 104) if dtype == np.float32 else (708, 745)
    x[kind == 6] = -rng.uniform(low, high, (np.count_nonzero(kind == 6), n_columns))
    x[chosen] = np.where(kind == 6, rng.standard_normal(n_rows), x[chosen])
    x[kind == 7] *= np.where(rng.random((np.count_nonzero(kind == 7), n_columns)) < 0.2, 40, 1)
    return x.astype(dtype)


def values(rng: Rng, shape: Shape, dtype: np.dtype[Any]) -> Array:
    """Numbers of all sizes for elementwise functions, both tails of sigmoid included."""
    scale = rng.choice([0.01, 1.0, 10.0, 50.0 if dtype == np.float32 else 350.0], shape)
    return (rng.standard_normal(shape) * scale).astype(dtype)


def gradients(rng: Rng, shape: Shape, dtype: np.dtype[Any], like: Array | None = None) -> Array:
    """Upstream gradients with outliers; a third of the rows is one-hot, where `like` is largest."""
    dy = rng.standard_normal(shape) * rng.choice([0.1, 1.0, 30.0], shape, p=[0.3, 0.6, 0.1])
    if like is not None and dy.size:
        one_hot = np.arange(shape[1]) == np.argmax(like, axis=1)[:, None]
        dy = np.where(rng.random((shape[0], 1)) < 1 / 3, one_hot, dy)
    return dy.astype(dtype)


def labels(rng: Rng, x: Array) -> Array:
    """Class labels of logits x, in half of the rows the likeliest one."""
    n_rows, n_columns = x.shape
    random = rng.integers(n_columns, size=n_rows)
    likeliest = np.argmax(x, axis=1) if n_rows else random
    return np.where(rng.random(n_rows) < 0.5, likeliest, random)


def probabilities(rng: Rng, x: Array) -> Array:
    """Target probabilities of logits x: zeros among them, a third of the rows one-hot.

    The others do not sum to 1.
    """
    t = rng.random(x.shape) * (rng.random(x.shape) < 0.8) / max(1, x.shape[1] / 2)
    one_hot = labels(rng, x)[:, None] == np.arange(x.shape[1])
    return np.where(rng.random((len(x), 1)) < 1 / 3, one_hot, t).astype(x.dtype)


def _one(make: Callable[..., Array]) -> Callable[..., Arguments]:
    return lambda rng, shape, dtype: Arguments((make(rng, shape, dtype),))


def _gradient_and_output(forward: Callable[..., Any]) -> Callable[..., Arguments]:
    def inputs(rng: Rng, shape: Shape, dtype: np.dtype[Any]) -> Arguments:
        y = forward(logits(rng, shape, dtype)).astype(dtype)
        return Arguments((gradients(rng, shape, dtype, like=y), y))

    return inputs


def _logsumexp_backward_inputs(rng: Rng, shape: Shape, dtype: np.dtype[Any]) -> Arguments:
    x = logits(rng, shape, dtype)
    dy = gradients(rng, (shape[0], 1), dtype)[:, 0]
    return Arguments((dy, x, np.asarray(reference.logsumexp(x)).astype(dtype)))


def _gradient_and_values(name: str) -> Callable[..., Arguments]:
    def inputs(rng: Rng, shape: Shape, dtype: np.dtype[Any]) -> Arguments:
        saved = values(rng, shape, dtype)
        if name == "y":
            saved = np.asarray(reference.sigmoid(saved)).astype(dtype)
        return Arguments((gradients(rng, shape, dtype),), {name: saved})

    return inputs


def _linear_inputs(rng: Rng, shape: Shape, dtype: np.dtype[Any]) -> Arguments:
    x = rng.standard_normal(shape).astype(dtype)
    weight = rng.standard_normal((shape[1], N_OUT)).astype(dtype)
    return Arguments((x, weight, rng.standard_normal(N_OUT).astype(dtype)))


def _linear_backward_inputs(rng: Rng, shape: Shape, dtype: np.dtype[Any]) -> Arguments:
    x, weight, _ = _linear_inputs(rng, shape, dtype).args
    return Arguments((rng.standard_normal((shape[0], N_OUT)).astype(dtype), x, weight))


N_OUT = 16  # features that come out of `linear`
IGNORED = -100  # the label of ignored rows


def _loss_inputs(variant: str, dloss: bool) -> Callable[..., Arguments]:
    """Logits, targets and options of a cross-entropy; the words of `variant` say which."""

    def inputs(rng: Rng, shape: Shape, dtype: np.dtype[Any]) -> Arguments:
        words = variant.split(",")
        n_rows, n_columns = shape
        x = logits(rng, shape, dtype)
        targets = probabilities(rng, x) if "probabilities" in words else labels(rng, x)
        kwargs: dict[str, Any] = {}
        if "rows" in words:
            kwargs["reduction"] = "none"
        if "sum" in words:
            kwargs["reduction"] = "sum"
        if "smoothing" in words:
            kwargs["label_smoothing"] = 0.1
        if "weights" in words:
            kwargs["class_weight"] = rng.uniform(0.2, 3, n_columns).astype(dtype)
            kwargs["sample_weight"] = rng.uniform(0.2, 3, n_rows).astype(dtype)
        if "ignored" in words:
            kwargs["ignore_index"] = IGNORED
            ignored = rng.random(n_rows) < 0.3
            targets = np.where(ignored, IGNORED, targets)
            x[ignored] = np.nan  # must reach nothing
        if not dloss:
            return Arguments((x, targets), kwargs)
        per_row = kwargs.get("reduction") == "none"
        upstream = rng.uniform(0.5, 2, n_rows).astype(dtype) if per_row else dtype.type(0.75)
        return Arguments((upstream, x, targets), kwargs)

    return inputs


# the table -------------------------------------------------------------------------------------

# For machines on which long double is no wider than float64: the reference's own error there.
ERROR_OF_REFERENCE = 3.0


def _moves(arrays: int, per_row: int = 0) -> Callable[[int, int, int], int]:
    """Bytes of so many (n_rows, n_columns) arrays, and of so many numbers per row."""
    return lambda n_rows, n_columns, itemsize: (arrays * n_columns + per_row) * n_rows * itemsize


def _moves_of_linear(passes: int) -> Callable[[int, int, int], int]:
    return lambda n_rows, n_columns, itemsize: (
        passes * (n_rows * (n_columns + N_OUT) + n_columns * N_OUT) * itemsize
    )


def _moves_of_loss(arrays: int, with_probabilities: bool) -> Callable[[int, int, int], int]:
    if with_probabilities:
        return _moves(arrays + 1)
    return lambda n_rows, n_columns, itemsize: n_rows * (arrays * n_columns * itemsize + 8)


def _plain_operations() -> Iterable[Operation]:
    def operation(
        name: str, inputs: Any, error: Any, promise: float, unit: str, bytes_moved: Any
    ) -> Operation:
        function = name.partition("[")[0]
        return Operation(
            name, getattr(ops, function), getattr(reference, function),
            inputs, error, promise, unit, bytes_moved,
        )  # fmt: skip

    ulp, product = "ULP", "ULP of dy·f, or dy·ULP of f"
    yield operation("softmax", _one(logits), ulps_of_result, 2, ulp, _moves(2))
    yield operation(
        "softmax_backward", _gradient_and_output(reference.softmax),
        eps_of_largest_entry, 5, "eps of the row's largest entry", _moves(3),
    )  # fmt: skip
    yield operation("log_softmax", _one(logits), ulps_of_result, 2, ulp, _moves(2))
    yield operation(
        "log_softmax_backward", _gradient_and_output(reference.log_softmax),
        eps_of_largest_term, 5, "eps of the row's largest term", _moves(3),
    )  # fmt: skip
    yield operation(
        "logsumexp", _one(logits), ulps_of_larger_term, 2, "ULP of max(|m|, log Σ)", _moves(1, 1)
    )
    yield operation(
        "logsumexp_backward", _logsumexp_backward_inputs, ulps_of_product, 2.5, product, _moves(2, 2)
    )
    yield operation("sigmoid", _one(values), ulps_of_result, 1, ulp, _moves(2))
    yield operation(
        "sigmoid_backward[y]", _gradient_and_values("y"), ulps_of_result, 2.5, ulp, _moves(3)
    )
    yield operation(
        "sigmoid_backward[x]", _gradient_and_values("x"), ulps_of_product, 2.1, product, _moves(3)
    )
    yield operation("log_sigmoid", _one(values), ulps_of_result, 1, ulp, _moves(2))
    yield operation(
        "log_sigmoid_backward", _gradient_and_values("x"), ulps_of_product, 2, product, _moves(3)
    )
    products = "eps of (number of terms) · Σ|terms|"
    yield operation(
        "linear", _linear_inputs, _of_products.linear, 1, products, _moves_of_linear(1)
    )
    yield operation(
        "linear_backward", _linear_backward_inputs, _of_products.linear_backward,
        1, products, _moves_of_linear(2),
    )  # fmt: skip


LOSS_VARIANTS = (
    "labels", "labels,rows", "labels,sum", "labels,ignored", "labels,smoothing,rows",
    "labels,weights,smoothing,ignored", "probabilities", "probabilities,rows",
    "probabilities,weights,smoothing",
)  # fmt: skip


def _losses() -> Iterable[Operation]:
    for variant in LOSS_VARIANTS:
        words = variant.split(",")
        soft = "probabilities" in words
        cancels = soft or "smoothing" in words
        unit = "ULP of the larger term" if cancels else "ULP"
        yield Operation(
            f"softmax_cross_entropy[{variant}]",
            ops.softmax_cross_entropy, reference.softmax_cross_entropy,
            _loss_inputs(variant, dloss=False), ulps_of_result,
            2 if "rows" in words else 1, "ULP", _moves_of_loss(1, soft),
        )  # fmt: skip
        yield Operation(
            f"softmax_cross_entropy_with_grad[{variant}]",
            ops.softmax_cross_entropy_with_grad, reference.softmax_cross_entropy_with_grad,
            _loss_inputs(variant, dloss=False), ulps_of_loss_and_gradient,
            2, unit, _moves_of_loss(2, soft),
        )  # fmt: skip
        yield Operation(
            f"softmax_cross_entropy_backward[{variant}]",
            ops.softmax_cross_entropy_backward, reference.softmax_cross_entropy_backward,
            _loss_inputs(variant, dloss=True), ulps_of_gradient,
            2, unit, _moves_of_loss(2, soft),
        )  # fmt: skip


OPS: dict[str, Operation] = {
    operation.name: operation for operation in (*_plain_operations(), *_losses())
}


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


# Masked tails, whole vectors, and enough for several threads.
VERIFIED_SHAPES = ((3, 1), (7, 2), (64, 10), (16, 129), (9, 1000), (48, 1000))


def verify(names: Iterable[str] | None = None) -> list[Verified]:
    """Measure every operation on this machine against the reference.

    Parameters
    ----------
    names : iterable of str, optional
        Which operations of `OPS`; all of them if not given.

    Returns
    -------
    list of Verified
        One for each operation and dtype, with its largest error and `ok`.

    Raises
    ------
    KeyError
        If a name is not in `OPS`.

    Notes
    -----
    The inputs are the same on every machine. A float64 result is judged in long double; where that
    is no wider than float64, three units are allowed for the error of the reference itself.

    Examples
    --------
    >>> all(row.ok for row in fastbp.verify(["softmax"]))
    True
    """
    rows = []
    for name in OPS if names is None else names:
        operation = OPS[name]
        for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
            worst = 0.0
            for seed, shape in enumerate(VERIFIED_SHAPES):
                arguments = operation.inputs(np.random.default_rng(seed), shape, dtype)
                error = operation.measure(arguments, operation.call(arguments))
                worst = error if error > worst or np.isnan(error) else worst
            promise = operation.promise + error_of_reference(dtype)
            rows.append(Verified(name, dtype.name, worst, promise, operation.unit))
    return rows


def error_of_reference(dtype: np.dtype[Any]) -> float:
    """What a measured error may owe to the reference."""
    judge_is_wider = np.finfo(np.longdouble).eps < np.finfo(dtype).eps
    return 0.0 if judge_is_wider else ERROR_OF_REFERENCE


# gradients -------------------------------------------------------------------------------------


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
    params: dict[str, Array] = dict(getattr(layer, "params", {}))
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
        numeric = np.empty(values_.shape)
        for i in np.ndindex(values_.shape):
            saved = values_[i]
            h = step * max(1.0, abs(saved))
            values_[i] = saved + h
            above = np.sum(dy * layer.forward(*inputs))
            values_[i] = saved - h
            below = np.sum(dy * layer.forward(*inputs))
            values_[i] = saved
            numeric[i] = (above - below) / (2 * h)
        allowed = atol + rtol * largest(np.abs(numeric))
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

"""What losses of elements share: their arguments checked, their weights, their launch.

Inputs are taken in C order, through a copy where their memory has another one: so the blocks in
which a loss is summed, and its bits, depend on the shape alone.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import Array, put_back, rows_of, rows_to_write
from ..checks import (
    as_array,
    as_values,
    broadcast,
    computed_in,
    like_first,
    of_dtype,
    one_of,
    out_or_new,
    same_shape,
)
from ..cpu.elementwise_losses import CHUNK, blocks_of_elements, loss_blocks
from ..cpu.run import Kernel, launch
from ..cuda.arrays import is_on_device
from ..formulas.elementwise_losses import itself
from .plain_calls import BOTH, GRADIENT, LOSS, plain_elements, remember_elements
from .row_losses import EMPTIES, REDUCTIONS, total_of


class Weights(NamedTuple):
    """Element j weighs values[j // run % period]; without values, 1."""

    values: Array | None = None
    run: int = 1
    period: int = 1


class ElementLoss(NamedTuple):
    """Checked arguments; nothing is written before there is one."""

    x: Array
    targets: Array
    weights: tuple[Weights, Weights]
    inputs: dict[str, Array]  # all arrays that were given, the first of which is x
    reduction: str
    empty: str
    denominator: float

    @property
    def is_weighted(self) -> bool:
        """Whether there are any weights."""
        return self.weights[0].values is not None


def element_loss(
    given: dict[str, ArrayLike],
    reduction: str,
    empty: str = "nan",
    positive: ArrayLike | None = None,
    sample: ArrayLike | None = None,
) -> Any:
    """Check all arguments of a loss: its two inputs by name, and pos_weight and sample_weight.

    The result is an `ElementLoss`; if the first input lives on a GPU, what takes its place there.
    """
    one_of(reduction, "reduction", REDUCTIONS)
    one_of(empty, "empty", EMPTIES)
    if is_on_device(next(iter(given.values()))):
        return _on_gpu().element_loss(given, reduction, empty, positive, sample)
    (x_name, x), (targets_name, targets) = given.items()
    x, targets = as_values(x, x_name), as_array(targets, targets_name)
    inputs = {x_name: x, targets_name: targets}
    targets = like_first(targets, targets_name, x)
    same_shape(targets, targets_name, x.shape, x_name)
    for name, w in (("pos_weight", positive), ("sample_weight", sample)):
        if w is not None:
            inputs[name] = _weight(w, name, x, x_name)
    weights = Weights(), Weights()
    denominator = float(x.size) if reduction == "mean" else 1.0
    if len(inputs) > 2:
        one = np.ones((), computed_in(x.dtype))
        weights = (
            spread(inputs.get("pos_weight", one), x.shape),
            spread(inputs.get("sample_weight", one), x.shape),
        )
        if reduction == "mean" and sample is not None:
            denominator = _sum_of(inputs["sample_weight"], x.shape)
    return ElementLoss(x, targets, weights, inputs, reduction, empty, denominator)


def _weight(w: ArrayLike, name: str, x: Array, x_name: str) -> Array:
    weight = of_dtype(as_values(w, name), computed_in(x.dtype))
    if not _ends(x.shape, weight.shape):
        broadcast(weight, name, x.shape, x_name)
    return weight


def _ends(shape: tuple[int, ...], own: tuple[int, ...]) -> bool:
    """Whether the last axes of a shape are those of a weight, which then need no broadcasting."""
    return shape[len(shape) - len(own) :] == own


def spread(w: Array, shape: tuple[int, ...]) -> Weights:
    """The weights of the elements of an array of that shape, to which w broadcasts.

    Only what lies between the first and the last axis along which w changes is ever copied.
    """
    size = math.prod(shape)
    if w.size == 1:
        return Weights(w.reshape(-1).copy(), max(size, 1), 1)
    values, run = _changing(w, shape)
    period = values.size
    if run == 1 and period < size:
        length = min(size, period + CHUNK)
        repeated = np.empty((-(-length // period), period), values.dtype)
        repeated[...] = values
        values = repeated.reshape(-1)[:length]
    return Weights(values, run, period)


def _changing(w: Array, shape: tuple[int, ...]) -> tuple[Array, int]:
    """w without the axes before and behind all that it has, flat; the elements behind."""
    if w.flags.c_contiguous and w.flags.aligned and _ends(shape, w.shape):
        return w.reshape(-1), 1
    own = (1,) * (len(shape) - w.ndim) + w.shape
    axes = [a for a, n in enumerate(own) if n != 1]
    first, end = (axes[0], axes[-1] + 1) if axes else (len(shape), len(shape))
    inner = np.broadcast_to(w.reshape(own[first:end]), shape[first:end])
    values = np.ascontiguousarray(inner).reshape(-1)
    run = math.prod(shape[end:]) if axes else 1
    return (values if values.flags.aligned else values.copy()), run


def _sum_of(w: Array, shape: tuple[int, ...]) -> float:
    """Σ w, w being broadcast to that shape."""
    values, _ = _changing(w, shape)
    size = math.prod(shape)
    if not size:
        return 0.0
    x = values.reshape(1, -1)
    plain = Weights(), Weights()
    _, sums = _launch(_SUM, x, x, plain, None, 1.0, 1.0, None, None, summed=True)
    total = total_of(sums, "sum", 1.0, "nan", np.dtype(np.float64))
    return float(total) * (size / values.size)


_SUM = loss_blocks(itself, itself)


# solving ------------------------------------------------------------------------------------------

# The kernels of a loss: without weights and, if it has any, with them.
Kernels = tuple[Kernel, ...]


def loss_of(
    kernels: Kernels, names: str, x: Any, targets: Any, reduction: str, empty: str = "nan",
    positive: Any = None, sample: Any = None,
) -> Any:  # fmt: skip
    """The loss of two inputs, whose names are given in one string; see `element_loss`."""
    if positive is None and sample is None:
        loss = plain_elements(kernels[0], x, targets, reduction, empty, LOSS)
        if loss is not None:
            return loss
    problem = element_loss(_named(names, x, targets), reduction, empty, positive, sample)
    kernel = kernels[problem.is_weighted]
    if not isinstance(problem, ElementLoss):
        return _on_gpu().loss_of(problem, kernel)
    return _solve(problem, kernel, None)


def loss_and_gradient(
    kernels: Kernels, names: str, x: Any, targets: Any, out: Array | None, reduction: str,
    empty: str = "nan", positive: Any = None, sample: Any = None,
) -> tuple[Any, Any]:  # fmt: skip
    """The loss and its gradient by the first input."""
    if positive is None and sample is None:
        found = plain_elements(kernels[0], x, targets, reduction, empty, BOTH, out=out)
        if found is not None:
            return found  # type: ignore[no-any-return]
    problem = element_loss(_named(names, x, targets), reduction, empty, positive, sample)
    kernel = kernels[problem.is_weighted]
    if not isinstance(problem, ElementLoss):
        return _on_gpu().loss_and_gradient(problem, kernel, out)  # type: ignore[no-any-return]
    gradient, dx = _gradient_like(problem, out, problem.inputs)
    loss = _solve(problem, kernel, dx)
    return loss, _returned(gradient, dx, out)


def gradient_of(
    kernels: Kernels, names: str, dloss: Any, x: Any, targets: Any, out: Array | None,
    reduction: str, empty: str = "nan", positive: Any = None, sample: Any = None,
) -> Any:  # fmt: skip
    """The gradient by the first input, given that by the loss."""
    if positive is None and sample is None:
        found = plain_elements(kernels[0], x, targets, reduction, empty, GRADIENT, dloss, out)
        if found is not None:
            return found
    problem = element_loss(_named(names, x, targets), reduction, empty, positive, sample)
    kernel = kernels[problem.is_weighted]
    if not isinstance(problem, ElementLoss):
        return _on_gpu().gradient_of(problem, kernel, dloss, out)
    x, axes = problem.x, _axes(problem.x)
    upstream, inputs, factor = None, problem.inputs, 1.0
    if problem.reduction == "none":
        given = of_dtype(as_values(dloss, "dloss"), computed_in(x.dtype))
        same_shape(given, "dloss", x.shape, "the loss")
        upstream, inputs = rows_of(given, axes), {**inputs, "dloss": given}
    else:
        factor = as_factor(dloss)
    gradient, dx = _gradient_like(problem, out, inputs)
    _run(problem, kernel, upstream, factor, None, dx, summed=False)
    return _returned(gradient, dx, out)


def _named(names: str, x: Any, targets: Any) -> dict[str, Any]:
    first, second = names.split()
    return {first: x, second: targets}


def _on_gpu() -> Any:
    """The module that does the same on a GPU."""
    from ..cuda import element_calls

    return element_calls


def as_factor(dloss: ArrayLike) -> float:
    """The gradient by a loss that is one number."""
    given = as_values(dloss, "dloss")
    same_shape(given, "dloss", (), "the loss")
    return float(given)


def _axes(x: Array) -> tuple[int, ...]:
    return tuple(range(x.ndim))


def _gradient_like(
    problem: ElementLoss, out: Array | None, inputs: dict[str, Array]
) -> tuple[Array, Array]:
    """`out`, checked, or a new array for the gradient; and as one row."""
    gradient = out_or_new(out, inputs)
    return gradient, rows_to_write(gradient, _axes(problem.x))


def _returned(gradient: Array, dx: Array, out: Array | None) -> Any:
    """The gradient; that of a number is a number."""
    put_back(dx, gradient, _axes(gradient))
    return gradient[()] if out is None and gradient.ndim == 0 else gradient


def _solve(problem: ElementLoss, kernel: Kernel, dx: Array | None) -> Any:
    """The loss; the gradient goes to dx, if that is given."""
    p, x = problem, problem.x
    losses = None
    if p.reduction == "none":
        losses = np.empty((1, x.size), computed_in(x.dtype))
    sums = _run(p, kernel, None, 1.0, losses, dx, summed=losses is None)
    if losses is not None:
        return losses.reshape(x.shape)[()]  # of a number, a number
    return total_of(sums, p.reduction, p.denominator, p.empty, x.dtype)


def _run(
    p: ElementLoss, kernel: Kernel, dloss: Array | None, factor: float, losses: Array | None,
    dx: Array | None, *, summed: bool,
) -> Array:  # fmt: skip
    """Run a kernel of `loss_blocks`, and return its blocks' sums if they are asked for."""
    axes = _axes(p.x)
    x, targets = rows_of(p.x, axes), rows_of(p.targets, axes)
    key, sums = _launch(
        kernel, x, targets, p.weights, dloss, factor, p.denominator, losses, dx, summed
    )
    if dloss is None and not p.is_weighted:
        asked = LOSS if dx is None else BOTH if summed or losses is not None else GRADIENT
        remember_elements(p.x, p.reduction, p.empty, asked, kernel, key)
    return sums


def _launch(
    kernel: Kernel, x: Array, targets: Array, weights: tuple[Weights, Weights],
    dloss: Array | None, factor: float, denominator: float, losses: Array | None,
    dx: Array | None, summed: bool,
) -> tuple[Any, Array]:  # fmt: skip
    """The key that tells the arguments' types apart, and the blocks' sums."""
    block, n_blocks = blocks_of_elements(x.size)
    sums = np.zeros((n_blocks, 2)) if summed else None
    key = (x.dtype.char, dloss is None, losses is None, sums is None, dx is None)
    (a, a_run, a_period), (b, b_run, b_period) = weights
    launch(
        kernel, key, n_blocks, x.size, 1, x, targets, a, a_run, a_period, b, b_run, b_period,
        dloss, factor, denominator, losses, sums, dx, block,
    )  # fmt: skip
    return key, np.zeros((0, 2)) if sums is None else sums

"""Losses of elements on a GPU: their arguments checked, and what is launched for them."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..checks import broadcast, same_shape
from ..cpu.origins import origins
from . import run
from .arrays import View
from .calls import put_back, result_rows
from .element_losses import loss_elements
from .layouts import (
    as_out,
    as_values,
    finish,
    new,
    new_like,
    numbers_to_read,
    outline,
    place_of,
    room,
    views_of,
)
from .losses import as_numbers, check_upstream, shaped, with_upstream
from .pairs import as_pair
from .reductions import PER_BLOCK, THREADS, reduce_sums, sum_blocks, sum_pairs
from .run import TILE, Launch, Numbers, Place, Real
from .staging import SCRATCH

Kernel = Callable[..., Any]

# No more blocks than this leave sums.
MOST_BLOCKS = 4096


class Weights(NamedTuple):
    """Element i weighs values[i // run % period]."""

    values: View
    run: int
    period: int


class Problem(NamedTuple):
    """Checked arguments."""

    views: dict[str, View]
    dtype: str
    weights: tuple[Any, Any]  # for pos_weight and sample_weight, `Weights` or None
    reduction: str
    empty: str

    @property
    def x(self) -> View:
        """The first input."""
        return next(iter(self.views.values()))

    @property
    def targets(self) -> View:
        """The second."""
        return list(self.views.values())[1]

    @property
    def of_sums(self) -> str:
        """The type of what is computed, and of losses."""
        return run.computed(self.dtype)

    @property
    def is_weighted(self) -> bool:
        """Whether there are any weights."""
        return self.weights != (None, None)


def element_loss(
    given: dict[str, Any], reduction: str, empty: str, positive: Any, sample: Any
) -> Problem:
    """Check the arrays, whose options have been checked."""
    weights = {"pos_weight": positive, "sample_weight": sample}
    arrays = given | {name: w for name, w in weights.items() if w is not None}
    views = views_of(arrays)
    (x_name, x), (t_name, t), *_ = views.items()
    dtype = as_values(x, x_name)
    as_values(t, t_name)
    same_shape(shaped(t), t_name, x.shape, x_name)
    spread: list[Weights | None] = []
    for name in weights:
        view = views.get(name)
        if view is None:
            spread.append(None)
            continue
        as_values(view, name)
        broadcast(outline(view), name, x.shape, x_name)
        spread.append(changing(view, x.shape))
    return Problem(views, dtype, (spread[0], spread[1]), reduction, empty)


def changing(w: View, shape: tuple[int, ...]) -> Weights:
    """The weights without the axes before and behind all along which they change."""
    own = (1,) * (len(shape) - w.ndim) + w.shape
    strides = (0,) * (len(shape) - w.ndim) + w.strides
    axes = [a for a, n in enumerate(own) if n != 1]
    first, end = (axes[0], axes[-1] + 1) if axes else (len(shape), len(shape))
    inner = w._replace(
        shape=shape[first:end],
        strides=tuple(0 if own[a] == 1 else strides[a] for a in range(first, end)),
    )
    return Weights(inner, math.prod(shape[end:]) if axes else 1, max(1, inner.size))


# what pages call ----------------------------------------------------------------------------------


def loss_of(problem: Problem, kernel: Kernel) -> Any:
    """The loss."""
    return solve(problem, kernel, None, None)


def loss_and_gradient(problem: Problem, kernel: Kernel, out: Any) -> tuple[Any, Any]:
    """The loss and its gradient by the first input."""
    gradient = gradient_like(problem, out)
    return solve(problem, kernel, None, gradient), gradient.owner


def gradient_of(problem: Problem, kernel: Kernel, dloss: Any, out: Any) -> Any:
    """The gradient by the first input, given that by the loss."""
    first = next(iter(problem.views))
    arrays, number = with_upstream(dloss, {first: problem.x.owner})
    problem = problem._replace(views=problem.views | views_of(arrays))
    check_upstream(dloss, problem.views, problem.x.shape if problem.reduction == "none" else ())
    gradient = gradient_like(problem, out)
    solve(problem, kernel, problem.views.get("dloss", number), gradient)
    return gradient.owner


def gradient_like(p: Problem, out: Any) -> View:
    """`out`, checked, or a new array for the gradient."""
    if out is None:
        return new_like(p.x, p.dtype)
    return as_out(out, p.x.shape, p.dtype, p.views, 1)


# solving ------------------------------------------------------------------------------------------


def solve(p: Problem, kernel: Kernel, upstream: View | float | None, gradient: View | None) -> Any:
    """The reduced loss; the gradient is written if it is asked for."""
    place = place_of([*p.views.values(), *([] if gradient is None else [gradient])])
    work = Work(p, place)
    n, everything = p.x.size, tuple(range(p.x.ndim))
    denominator, known = None, 1.0
    if p.reduction == "mean":
        denominator, known = work.denominator()
    losses = None
    if p.reduction == "none" and upstream is None:
        losses = new(p.x.shape, p.of_sums, p.x)
    per_block = PER_BLOCK * max(1, -(-n // (PER_BLOCK * MOST_BLOCKS)))
    blocks = max(1, -(-n // per_block))
    sums = None
    if losses is None and upstream is None:
        sums = as_numbers(work.room((2 * blocks,), p.of_sums))
    dx, written = None, gradient
    if gradient is not None:
        rows, written = result_rows(gradient, everything, place)
        dx = Numbers(rows.address, p.dtype)
    dloss, scalar, number = None, None, 1.0
    if isinstance(upstream, View):
        given = work.numbers(upstream, p.of_sums)
        dloss, scalar = (given, None) if p.reduction == "none" else (None, given)
    elif upstream is not None:
        number = upstream
    a, b = work.weights()
    work.execute(
        on_gpu(kernel, weighted=p.is_weighted), blocks, n, per_block, work.numbers(p.x, p.dtype),
        work.numbers(p.targets, p.dtype), *a, *b, dloss, scalar, as_pair(number, 1.0, p.of_sums),
        denominator, as_pair(known, 1.0, p.of_sums),
        None if losses is None else as_numbers(losses), sums, dx,
    )  # fmt: skip
    if gradient is not None and written is not None:
        put_back(written, gradient, everything, place)
        finish(p.x, gradient, place)
    if upstream is not None:
        return None
    if losses is None:
        losses = new((), p.of_sums, p.x)
        nothing = Real(0.0 if p.empty == "zero" else np.nan, p.of_sums)
        divisor = as_pair(known, 1.0, p.of_sums)
        work.execute(
            reduce_sums, 1, sums, blocks, denominator, divisor, nothing, as_numbers(losses)
        )
    finish(p.x, losses, place)
    return losses.owner


def on_gpu(kernel: Kernel, *, weighted: bool) -> Kernel:
    """The GPU's kernel of the formulas that a CPU's one is made of."""
    loss, gradient = origins[kernel].given[:2]
    return loss_elements(loss, gradient, weighted)


class Work:
    """What is launched for a problem, and the memory that it needs until then."""

    def __init__(self, p: Problem, place: Place) -> None:
        self.p, self.place = p, place
        self.kept: list[Any] = []

    def numbers(self, view: View, dtype: str) -> Numbers:
        """An array's numbers in that type."""
        numbers, owner = numbers_to_read(view, dtype, self.place)
        self.kept.append(owner)
        return numbers

    def room(self, shape: tuple[int, ...], dtype: str) -> View:
        """Memory for as long as this object."""
        view = room(shape, dtype, self.p.x, self.place)
        self.kept.append(view)
        return view

    def execute(self, kernel: Kernel, blocks: int, *arguments: Any) -> None:
        """Launch a kernel of numbers."""
        shape = Launch(blocks, THREADS, SCRATCH)
        run.execute(kernel, TILE, shape, THREADS, self.place, arguments)

    def weights(self) -> list[tuple[Numbers | None, int, int]]:
        """Both weights as kernels take them: of a kernel with weights, both are given."""
        if not self.p.is_weighted:
            return [(None, 1, 1), (None, 1, 1)]
        return [
            (self.one(), 1, 1) if w is None
            else (self.numbers(w.values, self.p.of_sums), w.run, w.period)
            for w in self.p.weights
        ]  # fmt: skip

    def one(self) -> Numbers:
        """The number 1."""
        from .copies import fill

        one = as_numbers(self.room((1,), self.p.of_sums))
        run.launch_elements(fill, 1, self.place, 1, one, Real(1.0, self.p.of_sums))
        return one

    def denominator(self) -> tuple[Numbers | None, float]:
        """Of the mean: a pair that the GPU knows, and what it is to be multiplied by."""
        sample, size = self.p.weights[1], self.p.x.size
        if sample is None:
            return None, float(size)
        n = sample.values.size
        blocks = max(1, -(-n // PER_BLOCK))
        sums = as_numbers(self.room((2 * blocks,), self.p.of_sums))
        values = self.numbers(sample.values, self.p.of_sums)
        self.execute(sum_blocks, blocks, values, n, PER_BLOCK, sums)
        if blocks > 1:
            total = as_numbers(self.room((2,), self.p.of_sums))
            self.execute(sum_pairs, 1, sums, blocks, total)
            sums = total
        return sums, float(size // max(1, n))

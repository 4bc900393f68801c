"""softmax_cross_entropy on a GPU: its arguments checked, and what is launched for them.

1. Labels are counted, for the denominator of the mean and for bad ones; it stays on the GPU.
2. Rows have their losses and gradients computed.
3. The losses are reduced to one number.

Only `on_bad_label="raise"` waits for the GPU, between the first and the second.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from ..checks import HALVES, as_axis, as_ignored, bad_label, check_scales, same_shape
from . import driver, run
from .arrays import FLOATS, INTEGERS, View, is_on_device, itemsize
from .calls import put_back, result_rows
from .index_losses import count_indices, index_rows
from .label_losses import NO_ROW, count_labels, first_bad, label_rows
from .layouts import (
    as_out,
    as_values,
    finish,
    new,
    new_like,
    numbers_to_read,
    place_of,
    room,
    rows_of,
    rows_to_read,
    views_of,
)
from .pairs import as_pair, transform
from .range_calls import launch_huge_labels
from .reductions import PER_BLOCK, THREADS, reduce_losses, reduce_sums, sum_blocks, sum_pairs
from .run import LONG, TILE, Launch, Numbers, Place, Real, Reals, Rows
from .staging import SCRATCH
from .target_losses import target_rows

Shape = tuple[int, ...]

# Kernels with options need more registers than 1024 threads leave to each.
WITH_OPTIONS = 512
OF_WIDE_INDICES = 256
# Blocks that have room for a long row, on each multiprocessor.
BLOCKS_WITH_ROOM = 2


class Problem(NamedTuple):
    """Checked arguments."""

    logits: View
    targets: View  # probabilities of all classes, or indices, of which a label is one
    given: View | None  # probabilities of the indices
    class_weight: View | None
    sample_weight: View | None
    views: dict[str, View]  # all that were given
    dtype: str  # of the logits as they are computed from
    axis: int
    rows_shape: Shape
    ignore: int
    has_ignore: bool
    options: Any

    @property
    def of_sums(self) -> str:
        """The type of what is computed, and of losses."""
        return run.computed(self.dtype)

    @property
    def has_indices(self) -> bool:
        """Whether the targets are labels or indices."""
        return self.targets.dtype in INTEGERS

    @property
    def per_row(self) -> int:
        """Indices in each row."""
        return 1 if self.given is None else self.targets.shape[-1]

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return math.prod(self.rows_shape)

    @property
    def n_classes(self) -> int:
        """How many columns they have."""
        return self.logits.shape[self.axis]


def softmax_cross_entropy(arrays: dict[str, Any], axis: Any, options: Any) -> Any:
    """The loss."""
    p = checked(arrays, axis, options)
    return solve(p, None, None)


def softmax_cross_entropy_with_grad(
    arrays: dict[str, Any], axis: Any, options: Any, out: Any
) -> tuple[Any, Any]:
    """The loss and its gradient."""
    p = checked(arrays, axis, options)
    gradient = gradient_of(p, out)
    return solve(p, None, gradient), gradient.owner


def softmax_cross_entropy_backward(
    dloss: Any, arrays: dict[str, Any], axis: Any, options: Any, out: Any
) -> Any:
    """The gradient, given that by the loss: a number or an array on the GPU."""
    arrays, number = with_upstream(dloss, arrays)
    p = checked(arrays, axis, options)
    check_upstream(dloss, p.views, p.rows_shape if options.reduction == "none" else ())
    gradient = gradient_of(p, out)
    solve(p, p.views.get("dloss", number), gradient)
    return gradient.owner


def with_upstream(dloss: Any, arrays: dict[str, Any]) -> tuple[dict[str, Any], float]:
    """The arrays and the gradient by the loss: among them, or else a number."""
    if is_on_device(dloss):
        return {**arrays, "dloss": dloss}, 1.0
    return arrays, as_number(dloss)


def check_upstream(dloss: Any, views: dict[str, View], shape: Shape) -> None:
    """It must be shaped as the loss."""
    if "dloss" in views:
        as_values(views["dloss"], "dloss")
        same_shape(shaped(views["dloss"]), "dloss", shape, "the loss")
    elif shape:
        raise TypeError(
            f"dloss is {dloss!r}; expected an array on the GPU of shape {shape}, that of the loss"
        )


def as_number(dloss: Any) -> float:
    """The gradient by a loss that is one number, where it is not on the GPU."""
    try:
        return float(dloss)
    except (TypeError, ValueError):
        raise TypeError(f"dloss is {dloss!r}; expected a number or an array on the GPU") from None


def shaped(view: View) -> Any:
    """For questions about its shape."""
    return view


# checks -------------------------------------------------------------------------------------------


def checked(arrays: dict[str, Any], axis: Any, options: Any) -> Problem:
    """Check the arguments that are not None among the arrays."""
    pair = arrays["targets"]
    if isinstance(pair, tuple) and len(pair) == 2:
        arrays = {**arrays, "targets": pair[0], "targets' weights": pair[1]}
    views = views_of({name: x for name, x in arrays.items() if x is not None})
    logits, targets, given = views["logits"], views["targets"], views.get("targets' weights")
    dtype = as_values(logits, "logits")
    axis = as_axis(axis, logits.ndim, "logits")
    rows_shape = logits.shape[:axis] + logits.shape[axis + 1 :]
    n_classes = logits.shape[axis]
    if not n_classes and 0 not in rows_shape:
        raise ValueError(f"logits has shape {logits.shape}; expected at least one class")
    class_weight, sample_weight = views.get("class_weight"), views.get("sample_weight")
    if class_weight is not None:
        as_values(class_weight, "class_weight")
        same_shape(shaped(class_weight), "class_weight", (n_classes,), "one row of logits")
    if sample_weight is not None:
        as_values(sample_weight, "sample_weight")
        same_shape(shaped(sample_weight), "sample_weight", rows_shape, "logits without axis")
    check_targets(targets, given, logits, rows_shape)
    ignore, has_ignore = 0, False
    if targets.dtype in INTEGERS and given is None:
        ignore, has_ignore = as_ignored(options.ignore_index, np.dtype(targets.dtype))
    elif options.ignore_index is not None:
        raise ValueError("ignore_index is given; expected None with probabilities as targets")
    check_scales(options.softcap, options.temperature, run.computed(dtype))
    return Problem(
        logits, targets, given, class_weight, sample_weight, views, dtype, axis, rows_shape, ignore,
        has_ignore, options,
    )  # fmt: skip


def check_targets(targets: View, given: View | None, logits: View, rows_shape: Shape) -> None:
    """Labels, probabilities of all classes, or indices and their probabilities."""
    if given is not None:
        if targets.dtype not in INTEGERS or given.dtype not in FLOATS:
            raise TypeError(
                f"targets have dtypes {targets.dtype} and {given.dtype}; expected integer indices "
                "and float weights"
            )
        if targets.ndim != len(rows_shape) + 1 or targets.shape[:-1] != rows_shape:
            raise ValueError(
                f"targets has indices of shape {targets.shape}; expected {(*rows_shape, 'k')}, "
                "a few for each row"
            )
        same_shape(shaped(given), "targets' weights", targets.shape, "its indices")
        return
    if targets.dtype in INTEGERS:
        if targets.shape != rows_shape:
            raise ValueError(
                f"targets are integers of shape {targets.shape}; expected labels of shape "
                f"{rows_shape}, or float probabilities of shape {logits.shape}"
            )
        return
    if targets.dtype not in FLOATS:
        raise TypeError(
            f"targets have dtype {targets.dtype}; expected integer labels or float probabilities"
        )
    if targets.shape != logits.shape:
        raise ValueError(
            f"targets are floats of shape {targets.shape}; expected probabilities of shape "
            f"{logits.shape}, or integer labels of shape {rows_shape}"
        )


def gradient_of(p: Problem, out: Any) -> View:
    """`out`, checked, or a new array for the gradient by the logits."""
    if out is None:
        return new_like(p.logits, p.dtype)
    return as_out(out, p.logits.shape, p.dtype, p.views, 1)


# solving ------------------------------------------------------------------------------------------


def solve(p: Problem, upstream: View | float | None, gradient: View | None) -> Any:
    """The reduced loss; the gradient is written if it is asked for."""
    o = p.options
    results = [] if gradient is None else [gradient]
    place = place_of([*p.views.values(), *results])
    given = Given(p, place)
    denominator, known = None, 1.0
    if p.has_indices and (o.reduction == "mean" or o.on_bad_label == "raise"):
        denominator = given.count()
    elif o.reduction == "mean" and p.sample_weight is not None:
        denominator = given.sum_of_weights()
    elif o.reduction == "mean":
        known = float(p.n_rows)
    rows = p.rows_shape if o.reduction == "none" else (p.n_rows,)
    losses = new(rows, p.of_sums, p.logits) if o.reduction == "none" else given.room(rows)
    if o.reduction != "mean":
        denominator = None
    if gradient is None:
        given.launch(denominator, known, upstream, losses, None)
    else:
        dx, written = result_rows(gradient, (p.axis,), place)
        given.launch(denominator, known, upstream, losses, dx)
        put_back(written, gradient, (p.axis,), place)
        finish(p.logits, gradient, place)
    if upstream is not None:
        return None
    result = losses
    if o.reduction != "none":
        result = new((), p.of_sums, p.logits)
        given.reduce(losses, denominator, known, result)
    finish(p.logits, result, place)
    return result.owner


class Given:
    """The arguments as kernels take them, and what is launched for them."""

    def __init__(self, p: Any, place: Place) -> None:
        self.p, self.place = p, place
        self.kept: list[Any] = []  # what keeps memory until all is launched
        self.x = self.keep(rows_to_read(p.logits, (p.axis,), p.dtype, place))
        if p.has_indices:
            self.targets = self.keep(numbers_to_read(p.targets, p.targets.dtype, place))
        else:
            self.targets = self.keep(rows_to_read(p.targets, (p.axis,), p.dtype, place))
        self.given = self.numbers(p.given)
        self.class_weight = self.numbers(p.class_weight)
        self.sample_weight = self.numbers(p.sample_weight)

    def keep(self, read: tuple[Any, Any]) -> Any:
        """What was read, and keep its memory."""
        self.kept.append(read[1])
        return read[0]

    def numbers(self, view: View | None) -> Numbers | None:
        """An array's numbers, in the type that is computed with."""
        if view is None:
            return None
        return self.keep(numbers_to_read(view, self.p.of_sums, self.place))  # type: ignore[no-any-return]

    def room(self, shape: Shape, dtype: str = "") -> View:
        """Memory for as long as this object."""
        view = room(shape, dtype or self.p.of_sums, self.p.logits, self.place)
        self.kept.append(view)
        return view

    def execute(self, kernel: Any, blocks: int, *arguments: Any) -> None:
        """Launch a kernel of numbers."""
        shape = Launch(blocks, THREADS, SCRATCH)
        run.execute(kernel, TILE, shape, THREADS, self.place, arguments)

    def count(self) -> Numbers:
        """The sum of the weights of all rows that count, a pair; an IndexError, if asked for."""
        p = self.p
        n = p.n_rows
        blocks = max(1, -(-n // PER_BLOCK))
        sums, bad = as_numbers(self.room((2 * blocks,))), self.room((blocks,), "int64")
        if p.given is None:
            self.execute(
                count_labels, blocks, self.targets, n, PER_BLOCK, p.n_classes, self.class_weight,
                self.sample_weight, p.ignore, int(p.has_ignore), sums, as_numbers(bad),
            )  # fmt: skip
        else:
            self.execute(
                count_indices, blocks, self.targets, p.per_row, n, PER_BLOCK, p.n_classes,
                self.sample_weight, sums, as_numbers(bad),
            )  # fmt: skip
        raises = p.options.on_bad_label == "raise"
        if raises:
            if blocks > 1:
                first = self.room((1,), "int64")
                self.execute(first_bad, 1, as_numbers(bad), blocks, as_numbers(first))
                bad = first
            self.look_for_bad_row(bad)
        return self.total(sums, blocks)

    def sum_of_weights(self) -> Numbers:
        """The sum of all sample weights, a pair."""
        n = self.p.n_rows
        blocks = max(1, -(-n // PER_BLOCK))
        sums = as_numbers(self.room((2 * blocks,)))
        self.execute(sum_blocks, blocks, self.sample_weight, n, PER_BLOCK, sums)
        return self.total(sums, blocks)

    def total(self, sums: Numbers, blocks: int) -> Numbers:
        """The sum of all blocks' sums."""
        if blocks == 1:
            return sums
        total = as_numbers(self.room((2,)))
        self.execute(sum_pairs, 1, sums, blocks, total)
        return total

    def look_for_bad_row(self, bad: View) -> None:
        """Wait for what `count_labels` has found."""
        place, p = self.place, self.p
        row = int(np.frombuffer(driver.fetch(bad.address, 8, place.stream, place.device), "i8")[0])
        if row == NO_ROW:
            return
        size = p.per_row * itemsize(self.targets.dtype)
        first = self.targets.address + row * size
        label = driver.fetch(first, size, place.stream, place.device)
        labels = np.frombuffer(label, self.targets.dtype)
        raise IndexError(bad_label(labels, row, p.rows_shape, p.n_classes))

    def launch(
        self,
        denominator: Numbers | None,
        known: float,
        upstream: View | float | None,
        losses: View,
        dx: Rows | None,
    ) -> None:
        """Losses and gradients of all rows."""
        p, o, x = self.p, self.p.options, self.x
        if not x.rows:
            return
        softcap, temperature, z = transform(o, p.of_sums)
        kernel, of_targets, more_slots = self.kernel()
        plain = kernel is not index_rows and not (softcap or temperature or z or self.class_weight)
        slots = more_slots + (2 if softcap else 1)
        regime = run.regime_on(self.place, x.columns, slots, p.dtype)
        shape = run.geometry(regime, x.rows, x.columns, slots, p.dtype)
        most = run.most_threads(p.dtype, regime)
        of_wide_indices = kernel is index_rows and p.dtype == "float64"
        spare = None
        if not plain:
            most = min(most, OF_WIDE_INDICES if of_wide_indices else WITH_OPTIONS)
            shape = shape._replace(threads=min(shape.threads, most))
        keeps = kernel is index_rows and p.dtype in HALVES and dx is not None
        if (temperature or keeps) and regime is LONG:
            at_once = BLOCKS_WITH_ROOM * driver.device(self.place.device).multiprocessors
            shape = shape._replace(blocks=min(shape.blocks, at_once))
            spare = rows_of(self.room((shape.blocks, x.columns)), (1,))
        dloss, step, number = None, 0, 1.0
        if isinstance(upstream, View):
            dloss, step = self.numbers(upstream), int(o.reduction == "none")
        elif upstream is not None:
            number = upstream
        factor = as_pair(number, o.temperature, p.of_sums)
        incoming = (
            self.sample_weight, dloss, step, factor, denominator, as_pair(known, 1.0, p.of_sums)
        )  # fmt: skip
        of_losses = as_numbers(losses)
        if kernel is label_rows and temperature is None:
            labels, weights, *ignored = of_targets
            if launch_huge_labels(
                p.dtype, self.place, p.logits, x, labels, weights, tuple(ignored), incoming,
                of_losses, dx, z,
            ):  # fmt: skip
                return
        arguments = (x, *of_targets, *incoming, of_losses, dx, spare, softcap, temperature, z)
        run.execute(kernel, regime, shape, most, self.place, arguments)

    def kernel(self) -> tuple[Any, tuple[Any, ...], int]:
        """The kernel, what it is given of the targets, and on the chip how many rows of them."""
        p, o = self.p, self.p.options
        ignored = p.ignore, int(p.has_ignore), int(o.on_bad_label != "ignore")
        smoothing = None
        if o.smoothing or not p.has_indices:
            keep = as_pair(1.0, 1.0, p.of_sums, -o.smoothing)
            share = as_pair(o.smoothing, float(p.n_classes), p.of_sums)
            smoothing = Reals(keep.values + share.values, p.of_sums)
        if not p.has_indices:
            return target_rows, (self.targets, self.class_weight, smoothing), 1
        if p.given is None and smoothing is None:
            return label_rows, (self.targets, self.class_weight, *ignored), 0
        picked = rows_of(self.room((p.n_rows, p.per_row)), (1,))
        of_targets = self.targets, self.given, p.per_row, picked, self.class_weight, smoothing
        return index_rows, (*of_targets, *ignored), 0

    def reduce(self, losses: View, denominator: Numbers | None, known: float, result: View) -> None:
        """The sum of the losses, or their mean."""
        n = losses.size
        numbers = as_numbers(losses)
        kernel = reduce_losses
        if n > PER_BLOCK:
            blocks = -(-n // PER_BLOCK)
            sums = as_numbers(self.room((2 * blocks,)))
            self.execute(sum_blocks, blocks, numbers, n, PER_BLOCK, sums)
            kernel, numbers, n = reduce_sums, sums, blocks
        nothing = Real(0.0 if self.p.options.empty == "zero" else np.nan, self.p.of_sums)
        divisor = as_pair(known, 1.0, self.p.of_sums)
        self.execute(kernel, 1, numbers, n, denominator, divisor, nothing, as_numbers(result))


def as_numbers(view: View) -> Numbers:
    """An array without gaps."""
    return Numbers(view.address, view.dtype)

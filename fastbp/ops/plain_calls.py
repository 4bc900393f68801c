"""Plain calls, in a microsecond or less: what has passed once is not checked again.

To check options and to find a kernel for them takes Python longer than a small kernel runs. So when
a call has gone the general way, what it came to is kept in a table (see `cpu.doors`), under the
values of the options and the types of the arrays, and later calls try the table's door first: one
call of compiled code, which looks at all that may have changed, and computes if all is plain.
Whatever it answers None to goes the general way, which knows all errors.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..arrays import Array
from ..checks import computed_in, like_first
from ..cpu import plain_losses, plain_maps
from ..cpu.doors import LIKE_X, NUMBER32, NUMBER64, OF_ROWS
from ..cpu.index_losses import index_blocks
from ..cpu.run import Kernel, address, inner_address, numba_type
from .row_losses import NOTHING, RowLoss, as_smoothing, transform


def not_yet(*_: Any) -> None:
    """No call of the kind has passed."""


class Doors(dict[Any, Callable[..., Any]]):
    """Doors by what they are for."""

    def __missing__(self, what: Any) -> Callable[..., Any]:
        return not_yet


doors = Doors()
tables: dict[Any, Any] = {}  # theirs, likewise

# What is asked of a loss. (Doors of losses of elements are known by their kernel besides.)
LOSS, BOTH, GRADIENT = "loss", "loss and gradient", "gradient"

_WHOLE = frozenset((int, type(None)))
_REAL = frozenset((int, float, type(None)))


def keep(what: Any, name: tuple[Any, ...], entry: Callable[[Any], dict[str, Any]]) -> None:
    """Let later calls of a door find an entry; its name tells it from others.

    What `Table.add` takes is a function of `cpu.tables`, which starts the compiler.
    """
    if what in tables and name in tables[what]:
        return
    from ..cpu import tables as t

    if t.HAS_LOCK:
        table = tables.get(what) or t.Table()
        table.add(name, **entry(t))
        tables[what], doors[what] = table, table.door


def kind_of(x: Array) -> tuple[Any, ...]:
    """What an array must be like, as a part of a name; where int64 has two numbers, so here."""
    return x.dtype.num, x.dtype.isnative, x.ndim


def typed(options: Iterable[Any]) -> tuple[Any, ...]:
    """Options as a part of a name: 1 is no 1.0."""
    return tuple((type(o), o) for o in options)


# maps and reductions, see `calls` -----------------------------------------------------------------


def remember_map(
    kernel: Kernel, called: Kernel, by_rows: bool, axis: Any, arrays: Sequence[Array]
) -> None:
    """Let later calls such as kernel(*arrays, result) try the door for `called` first."""
    x = arrays[0]
    code = address(kernel, x.dtype.char if by_rows else (x.dtype.char, x.ndim))
    if code is None or not fits_door(x, by_rows, axis):
        return

    def entry(t: Any) -> dict[str, Any]:
        make = plain_maps.map_one if len(arrays) == 1 else plain_maps.map_two
        return {
            "code": inner_address(make(numba_type(x), by_rows)),
            "rules": [*[t.array(x)] * len(arrays), t.same(axis), t.ANYTHING],
            "told": [code], "result": LIKE_X, "result_dtype": x.dtype, "out": len(arrays) + 1,
        }  # fmt: skip

    keep(called, (kind_of(x), axis), entry)


def remember_reduction(kernel: Kernel, x: Array, axis: Any, keepdims: Any) -> None:
    """The same for a number of each row."""
    code = address(kernel, x.dtype.char)
    if code is None or keepdims is not False or not fits_door(x, True, axis):
        return

    def entry(t: Any) -> dict[str, Any]:
        inner = plain_maps.reduce_rows(numba_type(x), numba_type(x[:, 0]))
        return {
            "code": inner_address(inner),
            "rules": [t.array(x), t.same(axis), t.same(keepdims), t.ANYTHING],
            "told": [code], "result": OF_ROWS, "result_dtype": x.dtype, "out": 3,
        }  # fmt: skip

    keep(kernel, (kind_of(x), axis), entry)


def fits_door(x: Array, by_rows: bool, axis: Any) -> bool:
    """Whether there is a kernel for arrays of so many axes, as they are."""
    if not by_rows:
        return x.ndim > 0
    return x.ndim == 2 and type(axis) is int and axis in (-1, 1)


# softmax_cross_entropy ----------------------------------------------------------------------------


@lru_cache
def smoothing_array(epsilon: float, n_classes: int) -> Array:
    """What kernels are told of smoothing, which they never write to."""
    return np.array(as_smoothing(epsilon, max(n_classes, 1)))


def remember_rows(
    p: RowLoss, options: tuple[Any, ...], kernel: Kernel, key: Any, dx: Array | None
) -> None:
    """Let later calls of (logits, targets, dloss, out, *options) try a door first."""
    axis, class_weight, sample_weight, *others = options
    _, indices, given = p.targets
    plain = p.logits.ndim == 2 and p.axes == (1,) and p.logits.size > 0
    # (Of a smoothing so small that a class's share is 0 the kernel depends on the classes.)
    if not plain or given is not None or 0.0 < p.smoothing < 1e-290:
        return
    if not {type(axis), type(others[0])} <= _WHOLE or not set(map(type, others[1:5])) <= _REAL:
        return
    code = address(kernel, key)
    if code is None:
        return
    x, computed = p.logits, computed_in(p.logits.dtype)
    targets = p.logits if indices is None else indices[:, 0]
    weights = [class_weight is not None, sample_weight is not None]
    with_grad = dx is not None

    def entry(t: Any) -> dict[str, Any]:
        kind, nothing, none = numba_type(x), NOTHING[computed], numba_type(None)
        scales = transform(p)
        weight_kinds = [numba_type(nothing), numba_type(nothing)]
        compute: Kernel = plain_losses.label_loss_if_plain
        smoothing: Callable[[int, int], Any] = plain_losses.no_smoothing
        if indices is None:
            compute = plain_losses.target_loss_if_plain
            weight_kinds[0] = numba_type(nothing if weights[0] else None)
        if p.smoothing or indices is None:
            smoothing = plain_losses.smoothing_of
        inner = plain_losses.row_loss(
            compute, smoothing, kind, numba_type(targets), *weight_kinds,
            kind if with_grad else none, *map(numba_type, scales),
        )  # fmt: skip
        keep_all, keep_lo, _, _ = as_smoothing(p.smoothing, 1)
        real = (*(s or 0.0 for s in scales), p.temperature, p.smoothing, keep_all, keep_lo)
        return {
            "code": inner_address(inner),
            "rules": [
                t.array(x), t.array(targets), t.ANY_FLOAT, t.ANYTHING, t.same(axis),
                *(t.array(nothing) if w else t.same(None) for w in weights), *map(t.same, others),
            ],
            "told": [
                code, id(nothing), p.reduction == "mean", p.empty == "zero",
                p.ignore, p.has_ignore, others[-1] == "raise", p.bad_is_nan,
                kernel is index_blocks, *map(t.bits_of, real),
            ],
            "upstream": 2, **loss_like(p.reduction, OF_ROWS, computed),
            **(gradient_like(x, 3) if with_grad else {}),
        }  # fmt: skip

    like = kind_of(x), kind_of(targets), *weights
    keep(BOTH if with_grad else LOSS, (*like, *typed((axis, *others))), entry)


def loss_like(reduction: str, each: int, dtype: np.dtype[Any]) -> dict[str, Any]:
    """What an entry says of a loss; `each` are those of all rows or elements."""
    number = NUMBER64 if dtype.itemsize == 8 else NUMBER32
    return {"loss": each if reduction == "none" else number, "loss_dtype": dtype}


def gradient_like(x: Array, out: int) -> dict[str, Any]:
    """What an entry says of a gradient by x; `out` says which argument may be its place."""
    return {"result": LIKE_X, "result_dtype": x.dtype, "out": out}


# other losses -------------------------------------------------------------------------------------


def remember_probabilities(
    probs: Array, targets: Array, axis: Any, reduction: str, kernel: Kernel, key: Any
) -> None:
    """Let later calls of (probs, targets, axis, reduction) try a door first."""
    code = address(kernel, key)
    if code is None or not fits_door(probs, True, axis):
        return
    computed = computed_in(probs.dtype)

    def entry(t: Any) -> dict[str, Any]:
        each = NOTHING[computed] if reduction == "none" else None
        with_labels = True if targets.ndim == 1 else None
        inner = plain_losses.probability_loss(
            numba_type(probs), numba_type(targets), with_labels, numba_type(each)
        )
        return {
            "code": inner_address(inner),
            "rules": [t.array(probs), t.array(targets), t.same(axis), t.same(reduction)],
            "told": [code, 0, reduction == "mean", False],
            **loss_like(reduction, OF_ROWS, computed),
        }  # fmt: skip

    keep("cross_entropy", (kind_of(probs), kind_of(targets), axis, reduction), entry)


def plain_elements(
    kernel: Kernel, x: Any, targets: Any, reduction: Any, empty: Any, asked: str,
    dloss: Any = 1.0, out: Any = None,
) -> Any:  # fmt: skip
    """The loss, (loss, gradient) or gradient; None if the call must go the general way."""
    door = doors[kernel, asked]
    result = door(x, targets, dloss, out, reduction, empty)
    if result is None and type(targets) is np.ndarray and targets.dtype.kind in "biu":
        # As floats, unless the copy would hide that out overlaps them.
        if type(x) is not np.ndarray or not (out is None or type(out) is np.ndarray):
            return None
        if x.dtype.kind == "f" and (out is None or not np.may_share_memory(targets, out)):
            return door(x, like_first(targets, "targets", x), dloss, out, reduction, empty)
    return result


def remember_elements(
    x: Array, reduction: str, empty: str, asked: str, kernel: Kernel, key: Any
) -> None:
    """Let later calls with arguments such as these try `plain_elements` first."""
    code = address(kernel, key)
    if code is None or not fits_door(x, False, None) or not x.size:
        return
    computed = computed_in(x.dtype)

    def entry(t: Any) -> dict[str, Any]:
        kind, none = numba_type(x), numba_type(None)
        each = numba_type(np.empty((0,) * x.ndim, computed)) if reduction == "none" else none
        has_sums = None if asked == GRADIENT or reduction == "none" else True
        inner = plain_losses.element_loss(
            kind, none if asked == GRADIENT else each, has_sums, none if asked == LOSS else kind
        )
        return {
            "code": inner_address(inner),
            "rules": [
                t.array(x), t.array(x), t.ANY_FLOAT, t.ANYTHING, t.same(reduction), t.same(empty)
            ],
            "told": [code, 0, reduction == "mean", empty == "zero"],
            "upstream": 2,
            **(loss_like(reduction, LIKE_X, computed) if asked != GRADIENT else {}),
            **(gradient_like(x, 3) if asked != LOSS else {}),
        }  # fmt: skip

    keep((kernel, asked), (kind_of(x), reduction, empty), entry)

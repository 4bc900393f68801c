"""Small calls of losses, in a few microseconds: what has passed once is not checked again.

To check options and to find a kernel for them takes Python longer than a small kernel runs. So when
a call has gone the general way, what its options came to is kept in `known`, under the options
themselves and the types of the arrays. A later call that finds it hands its arrays to a function
of `cpu.small`, which looks at shapes, strides, labels and overlaps, and computes if all is plain.
Whatever it does not say yes to goes the general way, which knows all errors.

Arrays are known by `type`, dtype and number of axes, as compiled code trusts these; numbers by
their type, too, as -1.0 equals -1, but is no axis. Calls without options (`calls`) are kept here
likewise.
"""

from functools import lru_cache
from typing import Any

import numpy as np

from ..arrays import Array
from ..checks import computed_in, like_first
from ..cpu.elementwise_losses import BLOCK
from ..cpu.index_losses import index_blocks
from ..cpu.row_losses import blocks_of_rows
from ..cpu.run import Kernel, address, shared_function, team
from ..cpu.small import (
    ONE_BLOCK,
    Asked,
    element_loss_if_small,
    label_loss_if_plain,
    probability_loss_if_small,
    target_loss_if_plain,
)
from .row_losses import NOTHING, RowLoss, as_smoothing, total_of, transform

# Options that change with every call, such as a temperature, must not fill the memory.
MOST = 1000
known: dict[Any, tuple[Any, ...]] = {}

_ndarray, _empty = np.ndarray, np.empty
_WHOLE = frozenset((int, type(None)))
_REAL = frozenset((int, float, type(None)))
_SCALARS = frozenset((float, np.float32, np.float64))


def keep(name: Any, *entry: Any) -> None:
    """Let later calls find the entry; the oldest ones go."""
    known[name] = entry
    if len(known) > MOST:
        for oldest in list(known)[: len(known) - MOST]:
            known.pop(oldest, None)


def fits(out: Any, dtype: np.dtype[Any], ndim: int) -> bool:
    """Whether compiled code may look at out: it cannot tell a dtype or what is read-only."""
    return type(out) is _ndarray and out.dtype is dtype and out.ndim == ndim and out.flags.writeable


# softmax_cross_entropy ----------------------------------------------------------------------------


def small_rows(
    logits: Any, targets: Any, dloss: Any, with_grad: bool, out: Any, axis: Any, class_weight: Any,
    sample_weight: Any, ignore: Any, smoothing: Any, z_loss: Any, softcap: Any, temperature: Any,
    reduction: Any, empty: Any, on_bad_label: Any,
) -> Any:  # fmt: skip
    """The loss, or (loss, gradient); None if the call must go the general way."""
    if (
        type(logits) is not _ndarray
        or type(targets) is not _ndarray
        or type(dloss) not in _SCALARS
        or type(axis) not in _WHOLE
        or type(ignore) not in _WHOLE
        or type(smoothing) not in _REAL
        or type(z_loss) not in _REAL
        or type(softcap) not in _REAL
        or type(temperature) not in _REAL
    ):
        return None
    dtype = logits.dtype
    name = (
        dtype, targets.dtype, logits.ndim, targets.ndim, class_weight is None, with_grad, axis,
        ignore, smoothing, z_loss, softcap, temperature, reduction, empty, on_bad_label,
    )  # fmt: skip
    try:
        entry = known.get(name)
    except TypeError:  # what cannot be looked up is no option
        entry = None
    if entry is None:
        return None
    function, code, weight, sample, epsilon, smooth, options, each = entry
    computed = sample.dtype
    if class_weight is not None:
        weight = class_weight if fits_weight(class_weight, computed) else None
    if sample_weight is not None:
        sample = sample_weight if fits_weight(sample_weight, computed) else None
    if sample is None or (class_weight is not None and weight is None):
        return None
    if with_grad:
        if out is None:
            out = _empty(logits.shape, dtype)
        elif not fits(out, dtype, 2):
            return None
    if epsilon:
        smooth = smoothing_array(epsilon, logits.shape[1])
    dx = out if with_grad else logits  # as compiled code takes an array in any case
    one_block, n_losses = logits.size < ONE_BLOCK, logits.shape[0] if each else 1
    losses = _empty(n_losses if one_block or each else room_for_sums(logits, computed), computed)
    threads = 0 if one_block else team()
    if not function(
        code, logits, targets, weight, sample, smooth, dloss, options, losses, dx, threads
    ):
        return None
    loss = losses if each else losses[0]
    if not (one_block or each):
        loss = loss_in(losses, reduction, empty, dtype)
    return (loss, out) if with_grad else loss


def room_for_sums(logits: Array, computed: np.dtype[Any]) -> int:
    """How many numbers take the room of two float64 and of two more for each block."""
    _, n_blocks = blocks_of_rows(logits.shape[0], logits.size)
    return (1 + n_blocks) * 16 // computed.itemsize


def loss_in(losses: Array, reduction: str, empty: str, dtype: np.dtype[Any]) -> Any:
    """The loss from the denominator and the sums of all blocks."""
    sums = losses.view(np.float64).reshape(-1, 2)
    return total_of(sums[1:], reduction, float(sums[0, 0]), empty, dtype)


def fits_weight(w: Any, dtype: np.dtype[Any]) -> bool:
    """Whether compiled code may look at these weights, where none at all are an empty array."""
    return type(w) is _ndarray and w.dtype is dtype and w.ndim == 1 and len(w) > 0


@lru_cache
def smoothing_array(epsilon: float, n_classes: int) -> Array:
    """What kernels are told of smoothing, which they never write to."""
    return np.array(as_smoothing(epsilon, max(n_classes, 1)))


def remember_rows(
    p: RowLoss, options: tuple[Any, ...], kernel: Kernel, key: Any, dx: Array | None
) -> None:
    """Let later calls with arguments such as these try `small_rows` first."""
    axis, class_weight, _, *others = options
    _, indices, given = p.targets
    small = p.logits.ndim == 2 and p.axes == (1,) and p.logits.size > 0
    # (Of a smoothing so small that a class's share is 0 the kernel depends on the classes.)
    if not small or given is not None or 0.0 < p.smoothing < 1e-290:
        return
    if not {type(axis), type(others[0])} <= _WHOLE or not set(map(type, others[1:5])) <= _REAL:
        return
    targets = p.logits if indices is None else indices[:, 0]
    name = (
        p.logits.dtype, targets.dtype, 2, targets.ndim, class_weight is None, dx is not None, axis,
        *others,
    )  # fmt: skip
    code = address(kernel, key)
    if name in known or code is None:
        return
    nothing = NOTHING[computed_in(p.logits.dtype)]
    weight: Array | None = nothing
    smooth: Array | None = smoothing_array(p.smoothing, p.n_classes)
    asked = asked_of(p.reduction, p.empty, dx is not None)
    told: tuple[Any, ...] = asked, (*transform(p), p.temperature)
    function: Kernel = target_loss_if_plain
    if indices is not None:
        function = label_loss_if_plain
        smooth = smooth if p.smoothing else None
        raises, indexed = others[-1] == "raise", kernel is index_blocks
        told = p.ignore, p.has_ignore, raises, p.bad_is_nan, indexed, *told
    elif class_weight is None:
        weight = None
    like = p.logits, targets, weight, nothing, smooth, 1.0, told, nothing, p.logits, 0
    compiled = shared_function(function, 0, *like)
    keep(name, compiled, code, weight, nothing, p.smoothing, smooth, told, asked[2])


# other losses -------------------------------------------------------------------------------------


def asked_of(reduction: str, empty: str, with_grad: bool, with_loss: bool = True) -> Asked:
    """What compiled code is asked for."""
    return reduction == "mean", empty == "zero", reduction == "none", with_grad, with_loss


def small_probabilities(probs: Any, targets: Any, axis: Any, reduction: Any) -> Any:
    """The loss of `cross_entropy`; None if the call must go the general way."""
    if type(probs) is not _ndarray or type(targets) is not _ndarray or type(axis) is not int:
        return None
    try:
        entry = known.get((probs.dtype, probs.ndim, targets.dtype, targets.ndim, axis, reduction))
    except TypeError:
        entry = None
    if entry is None:
        return None
    function, code, computed, with_labels, asked, each = entry
    losses = _empty(probs.shape[0] if each else 1, computed)
    if not function(code, probs, targets, with_labels, asked, losses):
        return None
    return losses if each else losses[0]


def remember_probabilities(
    probs: Array, targets: Array, axis: Any, reduction: str, kernel: Kernel, key: Any
) -> None:
    """Let later calls with arguments such as these try `small_probabilities` first."""
    if probs.ndim != 2 or axis not in (-1, 1) or type(axis) is not int:
        return
    name = probs.dtype, 2, targets.dtype, targets.ndim, axis, reduction
    code = address(kernel, key)
    if name in known or code is None:
        return
    computed = computed_in(probs.dtype)
    with_labels = True if targets.ndim == 1 else None
    asked = asked_of(reduction, "nan", with_grad=False)
    like = probs, targets, with_labels, asked, NOTHING[computed]
    function = shared_function(probability_loss_if_small, 0, *like)
    keep(name, function, code, computed, with_labels, asked, asked[2])


# What is asked of `small_elements`.
LOSS, BOTH, GRADIENT = range(3)


def small_elements(
    kernel: Kernel, x: Any, targets: Any, reduction: Any, empty: Any, asked: int,
    dloss: Any = 1.0, out: Any = None,
) -> Any:  # fmt: skip
    """The loss, (loss, gradient) or gradient; None if the call must go the general way."""
    if type(x) is not _ndarray or type(targets) is not _ndarray or type(dloss) not in _SCALARS:
        return None
    dtype, ndim = x.dtype, x.ndim
    try:
        entry = known.get((kernel, dtype, ndim, reduction, empty, asked))
    except TypeError:
        entry = None
    if entry is not None and targets.dtype is not dtype and x.size <= BLOCK:
        targets = hard_labels(targets, x, out)
    if entry is None or targets is None or targets.ndim != ndim or x.size > BLOCK:
        return None
    function, code, computed, told, each = entry
    dx = x  # as compiled code takes an array in any case
    if asked:
        if out is None:
            out = _empty(x.shape, dtype)
        elif not fits(out, dtype, ndim):
            return None
        dx = out
    losses = _empty(x.size if each else 1, computed)
    if not function(code, x, targets, dloss, told, losses, dx):
        return None
    if asked == GRADIENT:
        return out
    loss = losses.reshape(x.shape) if each else losses[0]
    return (loss, out) if asked else loss


def hard_labels(targets: Array, x: Array, out: Any) -> Array | None:
    """Integers and bools as floats, unless the copy would hide that out overlaps them."""
    if targets.dtype.kind not in "biu":
        return None
    if out is not None and (type(out) is not _ndarray or np.may_share_memory(targets, out)):
        return None
    return like_first(targets, "targets", x)


def remember_elements(
    x: Array, reduction: str, empty: str, asked: int, kernel: Kernel, key: Any
) -> None:
    """Let later calls with arguments such as these try `small_elements` first."""
    name = kernel, x.dtype, x.ndim, reduction, empty, asked
    code = address(kernel, key)
    if name in known or code is None or not 0 < x.size <= BLOCK or x.ndim == 0:
        return
    computed = computed_in(x.dtype)
    told = asked_of(reduction, empty, asked != LOSS, asked != GRADIENT)
    function = shared_function(element_loss_if_small, 0, x, x, 1.0, told, NOTHING[computed], x)
    keep(name, function, code, computed, told, told[2])

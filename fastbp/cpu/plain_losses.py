"""Plain calls of losses: as those of `plain_maps`, for kernels of losses."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from ..elementary import quotient, two_sum
from .doors import DLOSS, LOSS_IS, LOSSES_AT, NONE_AT, RESULT_AT, SHAPE, SUMS, TEAM as TEAM_AT
from .elementwise import PARALLEL_FROM, TEAM
from .elementwise_losses import blocks_of_elements
from .plain_maps import KERNEL, Array, Inner, can_hold_gradient, chunks_of, is_untouched
from .row_losses import BLOCK, blocks_of_rows, count_rows
from .vectors import (
    array_of,
    call_kernel,
    float_at,
    floats_at,
    one_row,
    option_at,
    place,
    put_float,
    share,
    word_at,
)

# Fewer logits are one block, see `blocks_of_rows`.
ONE_BLOCK = 2 * BLOCK

# What entries of losses tell behind the kernel: an empty array, in place of weights or losses that
# nobody wants; whether the loss is a mean, and a mean of nothing 0.
NOTHING, IS_MEAN, EMPTY_IS_ZERO = range(KERNEL + 1, KERNEL + 4)


def given_or_nothing(args: int, i: int, frame: int, kind: Any) -> Any:
    """The array that is argument i, or an empty one in the place of None."""
    given = word_at(args, i)
    return array_of(word_at(frame, NOTHING) if given == word_at(frame, NONE_AT) else given, kind)


def is_empty(args: int, i: int, frame: int) -> bool:
    """Whether argument i is an array (of one axis) of nothing, and not None."""
    given = word_at(args, i)
    return given != word_at(frame, NONE_AT) and word_at(word_at(given + SHAPE, 0), 0) == 0


def losses_or_nothing(frame: int, kind: Any) -> Any:
    """The array for the losses of all rows, or an empty one if they are not asked for."""
    losses = word_at(frame, LOSSES_AT)
    return array_of(word_at(frame, NOTHING) if losses == 0 else losses, kind)


def blocks_and_chunks(x: Array, team: int) -> tuple[int, int, int]:
    """Rows in a block, blocks, and how many threads take them: 0 as `chunks_of` has it."""
    block, n_blocks = x.shape[0], 1
    if x.size >= ONE_BLOCK:
        block, n_blocks = blocks_of_rows(x.shape[0], x.size)
    return block, n_blocks, min(n_blocks, chunks_of(True, team, x))


def room_for_sums(frame: int, n_blocks: int) -> Array:
    """Two numbers for each block."""
    if n_blocks == 1:
        return floats_at(frame + 8 * SUMS, 1)  # type: ignore[no-any-return]
    return np.empty((n_blocks, 2))


def put_loss(frame: int, sums: Array, denominator: float) -> None:
    """What `total_of` makes of the sums of all blocks."""
    total = 0.0
    for b in range(len(sums)):
        total += sums[b, 0]
    if np.isfinite(total):
        total = total + sums[0, 1] if len(sums) == 1 else exact_total(sums)
    if denominator != 0.0:
        total /= denominator
    elif not np.isnan(total):
        total = 0.0 if word_at(frame, EMPTY_IS_ZERO) else np.nan
    put_float(frame, LOSS_IS, total)


def exact_total(sums: Array) -> float:
    """The sum of all numbers, rounded once, as `math.fsum` has it.

    Source: Shewchuk, "Adaptive precision floating-point arithmetic" (1997), figure 4: the sum of
    the parts is always exact, and they do not overlap.
    """
    parts, n = np.empty(sums.size), 0
    for b in range(len(sums)):
        for part in (0, 1):
            x, kept = sums[b, part], 0
            for i in range(n):
                x, error = two_sum(x, parts[i])
                if error != 0.0:
                    parts[kept] = error
                    kept += 1
            parts[kept] = x
            n = kept + 1
    total, error = parts[n - 1], 0.0
    n -= 1
    while n > 0 and error == 0.0:
        n -= 1
        total, error = two_sum(total, parts[n])
    # Half-way between two numbers, the sign of what is left decides.
    if n > 0 and error * parts[n - 1] > 0.0:
        doubled = 2.0 * error
        other = total + doubled
        if other - total == doubled:
            total = other
    return 0.0 + total  # type: ignore[no-any-return]


def no_smoothing(_frame: int, _n: int) -> None:
    """Nothing, for kernels that know of none."""


def smoothing_of(frame: int, n: int) -> Array:
    """1 - ε and ε / n, each with its rounding error, as `as_smoothing` has them."""
    numbers, epsilon = np.empty(4), float_at(frame, EPSILON)
    numbers[0], numbers[1] = float_at(frame, KEEP), float_at(frame, KEEP_LO)
    numbers[2], numbers[3] = quotient(epsilon, np.float64(n))
    return numbers


# What entries of losses of rows tell besides: of the labels, the formulas, the smoothing.
IGNORE, HAS_IGNORE, RAISES, BAD_IS_NAN, INDEXED = range(KERNEL + 4, KERNEL + 9)
SOFTCAP, HEAT, Z_LOSS, TEMPERATURE = range(KERNEL + 9, KERNEL + 13)
EPSILON, KEEP, KEEP_LO = range(KERNEL + 13, KERNEL + 16)

# Which arguments of these losses are the weights, see `ops.plain_calls.remember_rows`.
CLASS_WEIGHT, SAMPLE_WEIGHT = 5, 6


def label_loss_if_plain(
    frame: int, x: Array, labels: Array, class_weight: Array, sample_weight: Array,
    smoothing: Any, transform: tuple[Any, ...], losses: Array, dx: Any,
) -> bool:  # fmt: skip
    """The loss of rows with a label each, and its gradient, unless something stands in the way.

    Says whether it was computed. Weights that are not given are empty. `losses` takes the losses of
    all rows, and dx the gradient, unless these are empty or None. The kernel is `label_blocks`, or
    where the entry says INDEXED `index_blocks`.
    """
    n_rows, n = x.shape
    team = word_at(frame, TEAM_AT)
    block, n_blocks, chunks = blocks_and_chunks(x, team)
    if place(x)[1] <= 0 or labels.size != n_rows or chunks == 0:
        return False
    if not (are_weights(class_weight, n) and are_weights(sample_weight, n_rows)):
        return False
    if not may_be_written(dx, x, labels, class_weight, sample_weight):
        return False
    ignore, has_ignore = word_at(frame, IGNORE), word_at(frame, HAS_IGNORE) != 0
    indices = labels[:, None]
    bad, denominator = count_rows(
        0, n_rows, n, indices, class_weight, sample_weight, ignore, has_ignore
    )
    if bad >= 0 and word_at(frame, RAISES):
        return False
    if not word_at(frame, IS_MEAN):
        denominator = 1.0
    sums = room_for_sums(frame, n_blocks)
    upstream = floats_at(frame + 8 * DLOSS, 1)[0, :1]
    softcap, heat, z = transform
    bad_is_nan, divisor = word_at(frame, BAD_IS_NAN) != 0, float_at(frame, TEMPERATURE)
    before = (sample_weight, denominator * divisor, upstream, losses, sums, dx)
    behind = (block, softcap, heat, z)
    loop, kernel = team // TEAM, word_at(frame, KERNEL)
    if word_at(frame, INDEXED):
        given = (x, indices, None, class_weight, smoothing, ignore, has_ignore, bad_is_nan)
        share(loop, kernel, n_blocks, chunks, 1, (*given, *before, *behind))
    else:
        skipped = (x, labels, class_weight, ignore, has_ignore, bad_is_nan, smoothing)
        share(loop, kernel, n_blocks, chunks, 1, (*skipped, *before, *behind))
    put_loss(frame, sums, denominator)
    return True


def target_loss_if_plain(
    frame: int, x: Array, targets: Array, class_weight: Any, sample_weight: Array,
    smoothing: Array, transform: tuple[Any, ...], losses: Array, dx: Any,
) -> bool:  # fmt: skip
    """The same with probabilities; here class_weight may be None."""
    n_rows, n = x.shape
    team = word_at(frame, TEAM_AT)
    block, n_blocks, chunks = blocks_and_chunks(x, team)
    if chunks == 0 or place(x)[1] <= 0 or x.shape != targets.shape or place(targets)[1] < 0:
        return False
    if class_weight is not None and not are_weights(class_weight, n):
        return False
    if not are_weights(sample_weight, n_rows):
        return False
    if not may_be_written(dx, x, targets, class_weight, sample_weight):
        return False
    denominator, is_exact = float(n_rows), True
    if sample_weight.size:
        denominator, is_exact = exact_sum(sample_weight)
    if not is_exact:
        return False
    if not word_at(frame, IS_MEAN):
        denominator = 1.0
    sums = room_for_sums(frame, n_blocks)
    upstream = floats_at(frame + 8 * DLOSS, 1)[0, :1]
    softcap, heat, z = transform
    divisor = float_at(frame, TEMPERATURE)
    share(
        team // TEAM, word_at(frame, KERNEL), n_blocks, chunks, 1,
        (
            x, targets, class_weight, smoothing, sample_weight, denominator * divisor, upstream,
            losses, sums, dx, block, softcap, heat, z,
        ),
    )  # fmt: skip
    put_loss(frame, sums, denominator)
    return True


def may_be_written(dx: Any, x: Array, targets: Array, a: Any, b: Any) -> bool:
    """Whether the gradient by x may go to dx, which touches no target and none of the weights.

    It may, if there is no dx.
    """
    if dx is None:
        return True
    dx_at, dx_bytes = place(dx)
    x_at, x_bytes = place(x)
    targets_at, targets_bytes = place(targets)
    a_at, a_bytes = place(a)
    b_at, b_bytes = place(b)
    return (
        x.shape == dx.shape
        and can_hold_gradient(dx_at, dx_bytes, x_at, x_bytes)
        and is_untouched(targets_at, targets_bytes, dx_at, dx_bytes)
        and is_untouched(a_at, a_bytes, dx_at, dx_bytes)
        and is_untouched(b_at, b_bytes, dx_at, dx_bytes)
    )


def are_weights(w: Array, n: int) -> bool:
    """Whether there are none, or n that follow one another."""
    return w.size == 0 or (w.size == n and place(w)[1] > 0)


def exact_sum(w: Array) -> tuple[float, bool]:
    """The sum, rounded once, and whether it is known to be that and finite."""
    s = s_lo = lost = 0.0
    for i in range(w.size):
        s, more = two_sum(s, np.float64(w[i]))
        s_lo, error = two_sum(s_lo, more)
        lost = max(lost, abs(error))
    return s + s_lo, bool(lost == 0.0 and np.isfinite(s))


@cache
def row_loss(
    compute: Callable[..., bool], smoothing: Callable[[int, int], Any], x: Any, targets: Any,
    class_weights: Any, weights: Any, dx: Any, *transform: Any,
) -> Inner:  # fmt: skip
    """What a door calls for one of the two losses above, all its arguments being of these types.

    Those of class weights may be that of None.
    """
    softcap, heat, z = transform

    def inner(args: int, frame: int) -> int:
        logits = array_of(word_at(args, 0), x)
        if is_empty(args, CLASS_WEIGHT, frame) or is_empty(args, SAMPLE_WEIGHT, frame):
            return 0
        options = (
            option_at(frame, SOFTCAP, softcap), option_at(frame, HEAT, heat),
            option_at(frame, Z_LOSS, z),
        )  # fmt: skip
        done = compute(
            frame, logits, array_of(word_at(args, 1), targets),
            given_or_nothing(args, CLASS_WEIGHT, frame, class_weights),
            given_or_nothing(args, SAMPLE_WEIGHT, frame, weights),
            smoothing(frame, logits.shape[1]), options, losses_or_nothing(frame, weights),
            array_of(word_at(frame, RESULT_AT), dx),
        )  # fmt: skip
        return 1 if done else 0

    return inner


# other losses -------------------------------------------------------------------------------------


def probability_loss_if_small(
    frame: int, p: Array, targets: Array, with_labels: Any, losses: Any
) -> bool:
    """The same for `label_log_blocks`, or where with_labels is None for `target_log_blocks`."""
    n_rows, n = p.shape
    p_bytes, targets_bytes = place(p)[1], place(targets)[1]
    if p_bytes <= 0 or p.size >= ONE_BLOCK or targets.shape[0] != n_rows:
        return False
    if with_labels is None:
        if p.shape != targets.shape or targets_bytes < 0:
            return False
    else:
        for i in range(n_rows):
            k: Any = np.int64(targets[i])
            if k < 0 or k >= n:
                return False
    sums = room_for_sums(frame, 1)
    call_kernel(word_at(frame, KERNEL), 0, 1, (p, targets, losses, sums, n_rows))
    put_loss(frame, sums, float(n_rows) if word_at(frame, IS_MEAN) else 1.0)
    return True


@cache
def probability_loss(p: Any, targets: Any, with_labels: bool | None, losses: Any) -> Inner:
    """What a door calls for it."""

    def inner(args: int, frame: int) -> int:
        done = probability_loss_if_small(
            frame, array_of(word_at(args, 0), p), array_of(word_at(args, 1), targets), with_labels,
            array_of(word_at(frame, LOSSES_AT), losses),
        )  # fmt: skip
        return 1 if done else 0

    return inner


def element_loss_if_plain(
    frame: int, x: Array, targets: Array, losses: Any, has_sums: Any, dx: Any
) -> bool:
    """The same for a kernel of `loss_blocks` without weights; has_sums is None if it has none."""
    if place(x)[1] <= 0 or x.shape != targets.shape or place(targets)[1] < 0:
        return False
    if not may_be_written(dx, x, targets, None, None):
        return False
    block, n_blocks = blocks_of_elements(x.size)
    team = word_at(frame, TEAM_AT)
    chunks = min(n_blocks, team % TEAM) if x.size >= PARALLEL_FROM else 1
    if chunks == 0:
        return False
    denominator = float(x.size) if word_at(frame, IS_MEAN) else 1.0
    sums = room_for_sums(frame, n_blocks)
    given = (one_row(x), one_row(targets), None, 1, 1, None, 1, 1, None)
    given_too = (float_at(frame, DLOSS), denominator, one_row(losses))
    loop, kernel = team // TEAM, word_at(frame, KERNEL)
    if has_sums is None:
        wanted = (*given, *given_too, None, one_row(dx), block)
        share(loop, kernel, n_blocks, chunks, 1, wanted)
    else:
        summed = (*given, *given_too, sums, one_row(dx), block)
        share(loop, kernel, n_blocks, chunks, 1, summed)
        put_loss(frame, sums, denominator)
    return True


@cache
def element_loss(x: Any, losses: Any, has_sums: bool | None, dx: Any) -> Inner:
    """What a door calls for it."""

    def inner(args: int, frame: int) -> int:
        done = element_loss_if_plain(
            frame, array_of(word_at(args, 0), x), array_of(word_at(args, 1), x),
            array_of(word_at(frame, LOSSES_AT), losses), has_sums,
            array_of(word_at(frame, RESULT_AT), dx),
        )  # fmt: skip
        return 1 if done else 0

    return inner

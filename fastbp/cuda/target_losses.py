"""The kernel of softmax cross-entropy with probabilities of all classes, on a GPU."""

from typing import Any

from ..cpu.target_losses import target_apply, target_factors, target_losses, target_reduce
from ..cpu.target_rows import class_targets
from ..cpu.vectors import (
    Number,
    Pointer,
    either,
    if_given,
    lanes,
    load,
    load_some,
    number,
    store,
    store_some,
)
from ..formulas.cross_entropy import target_gradient_of_logit
from .label_losses import incoming, room_for_logits, weight_of
from .reductions import as_denominator
from .row_kernels import existing_row
from .words import (
    Matrix,
    columns,
    first_row,
    if_staged,
    put_number,
    read_row,
    result_if_given,
    row_step,
    rows,
    write_row,
)


def target_rows(
    x: Matrix, targets: Matrix, class_weight: Pointer, smoothing: tuple[Number, ...],
    sample_weight: Pointer, dloss: Pointer, dloss_step: int, factor: tuple[Number, ...],
    denominator: Pointer, known: tuple[Number, ...], losses: Pointer, dx: Matrix, room: Matrix,
    softcap: Any, temperature: Any, z: Any,
) -> None:  # fmt: skip
    """As `label_rows`; `smoothing` is the four numbers of `as_smoothing`."""
    n = columns(x)
    for i in range(first_row(x), rows(x), row_step(x)):
        p, t = read_row(x, i, n, 0), read_row(targets, i, n, 1)
        q = result_if_given(p, dx, i)
        spare = room_for_logits(x, room, p, n, softcap, temperature, 2)
        j = existing_row(x, i)
        weight = weight_of(p, sample_weight, j)
        g, g_lo = incoming(dloss, j * dloss_step, factor, number(p, 1))
        loss = target_row(
            p, spare, if_given(q, either(spare, if_staged(x, q))), q, n, t, class_weight, smoothing,
            weight, (g, *as_denominator(denominator, known), g_lo), softcap, temperature, z,
        )  # fmt: skip
        if dx is not None:
            write_row(q, dx, i, n)
        put_number(x, losses, i, loss)


def target_row(
    x: Pointer, room: Pointer, kept: Pointer, dx: Pointer, n: int, targets: Pointer,
    class_weights: Pointer, smoothing: tuple[Number, ...], weight: Number,
    upstream: tuple[Number, ...], softcap: Any, temperature: Any, z: Any,
) -> Number:  # fmt: skip
    """The loss of a row; its gradient goes to dx, if that is given.

    The exponentials are where `kept` is, unless that is None.
    """
    of_row = target_reduce(
        x, room, kept, n, targets, class_weights, smoothing, softcap, temperature
    )
    if dx is not None:
        factors = target_factors(weight, upstream, z, *of_row)
        apply(x, room, kept, dx, n, targets, class_weights, smoothing, of_row[0], factors, softcap)
    return target_losses(weight, z, *of_row)


def apply(
    x: Pointer, room: Pointer, kept: Pointer, dx: Pointer, n: int, targets: Pointer,
    class_weights: Pointer, smoothing: tuple[Number, ...], m: Number, factors: tuple[Number, ...],
    softcap: Any,
) -> None:  # fmt: skip
    """The gradient of a row."""
    if kept is None:
        gradient_of_logits(x, dx, targets, class_weights, n, smoothing, m, factors)
    else:
        target_apply(x, room, dx, n, targets, class_weights, smoothing, factors, softcap)


def gradient_of_logits(
    x: Pointer, dx: Pointer, targets: Pointer, weights: Pointer, n: int,
    smoothing: tuple[Number, ...], m: Number, factors: tuple[Number, ...],
) -> None:  # fmt: skip
    """As `target_to_gradient`, of exponentials that have not been kept."""
    width = lanes(x)
    j = 0
    while j + width <= n:
        u, u_lo = class_targets(x, targets, weights, j, width, smoothing)
        store(dx, j, target_gradient_of_logit(load(x, j), m, u, u_lo, *factors))
        j += width
    if j < n:
        u, u_lo = class_targets(x, targets, weights, j, n - j, smoothing)
        v = load_some(x, j, n - j, 0)
        store_some(dx, j, n - j, target_gradient_of_logit(v, m, u, u_lo, *factors))

"""The kernels of cross-entropy on probabilities, by rows, on a GPU."""

from ..cpu.probability_losses import NAN, target_log_row
from ..cpu.row_losses import label_to_use
from ..cpu.rows import fill, map_two_rows
from ..cpu.vectors import Number, Pointer, number, pick, put
from ..formulas.cross_entropy import gradient_factor
from ..formulas.elementwise_losses import minus_log, probability_gradient
from .label_losses import incoming
from .row_kernels import existing_row
from .words import (
    Matrix,
    block,
    blocks,
    columns,
    first_row,
    own_row,
    put_number,
    read_row,
    result_row,
    row_at,
    row_step,
    rows,
    thread,
    threads,
    write_row,
)


def label_logs(
    n_rows: int, p: Pointer, stride: int, n: int, labels: Pointer, losses: Pointer
) -> None:
    """-log p of each row's label; of a row, nothing else is read."""
    for i in range(block() * threads() + thread(), n_rows, blocks() * threads()):
        k = label_to_use(pick(labels, i), n, 0, 0, 1)
        loss = number(losses, NAN)
        if k >= 0:
            v = pick(p, i * stride + k)
            loss = minus_log(v, v)
        put(losses, i, loss)


def target_logs(p: Matrix, targets: Matrix, losses: Pointer) -> None:
    """-Σ t·log p of each row."""
    n = columns(p)
    for i in range(first_row(p), rows(p), row_step(p)):
        x, t = read_row(p, i, n, 0), read_row(targets, i, n, 1)
        put_number(p, losses, i, target_log_row(x, t, n))


def label_gradients(
    p: Matrix, labels: Pointer, dloss: Pointer, dloss_step: int, factor: tuple[Number, ...],
    known: tuple[Number, ...], dp: Matrix,
) -> None:  # fmt: skip
    """-1 / p at each row's label and 0 elsewhere, times the incoming gradient."""
    n = columns(p)
    for i in range(first_row(p), rows(p), row_step(p)):
        if own_row(p, i) < rows(p):
            j = own_row(p, i)
            label_gradient_row(
                row_at(p, j), row_at(dp, j), n, label_to_use(pick(labels, j), n, 0, 0, 1),
                incoming(dloss, j * dloss_step, factor, number(row_at(p, j), 1)), known,
            )  # fmt: skip


def label_gradient_row(
    p: Pointer, dp: Pointer, n: int, k: int, incoming_pair: tuple[Number, ...],
    known: tuple[Number, ...],
) -> None:  # fmt: skip
    """One row of those."""
    g, g_lo = incoming_pair
    d, d_lo = known
    g, g_lo = gradient_factor(number(p, 1), g, d, d_lo, g_lo)
    v = pick(p, max(k, 0))
    if k >= 0:
        fill(dp, n, number(p, 0))
        put(dp, k, probability_gradient(v, number(p, 1), g, g_lo))
    else:
        fill(dp, n, number(p, NAN))


_target_gradient = map_two_rows(probability_gradient)


def target_gradients(
    p: Matrix, targets: Matrix, dloss: Pointer, dloss_step: int, factor: tuple[Number, ...],
    known: tuple[Number, ...], dp: Matrix,
) -> None:  # fmt: skip
    """-t / p, times the incoming gradient."""
    n = columns(p)
    for i in range(first_row(p), rows(p), row_step(p)):
        x, t = read_row(p, i, n, 0), read_row(targets, i, n, 1)
        q = result_row(x, dp, i)
        g, g_lo = incoming(dloss, existing_row(p, i) * dloss_step, factor, number(x, 1))
        d, d_lo = known
        _target_gradient(x, t, q, n, gradient_factor(number(x, 1), g, d, d_lo, g_lo))
        write_row(q, dp, i, n)

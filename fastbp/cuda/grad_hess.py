"""The kernels of gradient and Hessian for boosted trees, on a GPU."""

from ..cpu.grad_hess import grad_hess_row
from ..cpu.vectors import Number, Pointer, number, pick, store
from ..elementary import NAN
from ..formulas.grad_hess import sigmoid_grad_hess
from .label_losses import NO_ROW, weight_of
from .row_kernels import existing_row
from .words import (
    Matrix,
    block,
    blocks,
    chip,
    class_at,
    columns,
    copy_place,
    first_row,
    is_fraction,
    least_across,
    of_block,
    read_row,
    result_row,
    row_at,
    row_step,
    rows,
    spare_row,
    thread,
    threads,
    write_row,
)


def grad_hess_rows(
    x: Matrix, labels: Pointer, sample_weight: Pointer, share: tuple[Number, ...], floor: Number,
    grad: Matrix, hess: Matrix,
) -> None:  # fmt: skip
    """Gradient and Hessian of all rows; the gradient is computed in place, the Hessian beside it.

    Of a row too long for the chip, both are where they are to be written.
    """
    n = columns(x)
    for i in range(first_row(x), rows(x), row_step(x)):
        p = read_row(x, i, n, 0)
        g = result_row(p, grad, i)
        h = result_row(spare_row(x, hess, hess, n, 1), hess, i)
        grad_hess_of(p, g, h, n, labels, sample_weight, existing_row(x, i), share, floor)
        write_row(g, grad, i, n)
        write_row(h, hess, i, n)


def grad_hess_columns(
    x: Matrix, labels: Pointer, sample_weight: Pointer, share: tuple[Number, ...], floor: Number,
    grad: Matrix, hess: Matrix,
) -> None:  # fmt: skip
    """The same of few classes, where each row of x and of the results holds one class.

    A thread has its column on the chip; neighbouring threads read and write neighbouring numbers.
    """
    n, n_rows = rows(x), columns(x)
    pitch = n | 1  # an odd number, so that threads meet no bank twice
    p = chip(row_at(x, 0), thread() * pitch)
    h = chip(row_at(x, 0), (threads() + thread()) * pitch)
    for i in range(block() * threads() + thread(), n_rows, blocks() * threads()):
        for c in range(n):
            copy_place(p, c, row_at(x, c), i)
        grad_hess_of(p, p, h, n, labels, sample_weight, i, share, floor)
        for c in range(n):
            copy_place(row_at(grad, c), i, p, c)
            copy_place(row_at(hess, c), i, h, c)


def grad_hess_of(
    x: Pointer, grad: Pointer, hess: Pointer, n: int, labels: Pointer, sample_weight: Pointer,
    j: int, share: tuple[Number, ...], floor: Number,
) -> None:  # fmt: skip
    """Row j; NaN if its label, which was checked, has been changed since."""
    k = class_at(labels, j, n)
    weight = weight_of(x, sample_weight, j)
    if k < 0:
        k, weight = 0, number(x, NAN)
    share_hi, share_lo = share
    grad_hess_row(x, grad, hess, n, k, weight, share_hi, share_lo, floor)


def sigmoid_grad_hess_elements(
    n: int, x: Pointer, y: Pointer, sample_weight: Pointer, run: int, period: int, grad: Pointer,
    hess: Pointer,
) -> None:  # fmt: skip
    """Gradient and Hessian of each number; element i weighs sample_weight[i // run % period]."""
    for i in range(block() * threads() + thread(), n, blocks() * threads()):
        weight = weight_of(x, sample_weight, i // run % period)
        g, h = sigmoid_grad_hess(pick(x, i), pick(y, i), weight)
        store(grad, i, g)
        store(hess, i, h)


# bad labels ---------------------------------------------------------------------------------------


def bad_classes(labels: Pointer, n_rows: int, per_block: int, n_classes: int, bad: Pointer) -> None:
    """For each block's rows the first whose label is none of the classes; NO_ROW without one."""
    found = NO_ROW
    for i in range(
        block() * per_block + thread(), min(n_rows, (block() + 1) * per_block), threads()
    ):
        if class_at(labels, i, n_classes) < 0:
            found = min(found, i)
    leave_first(bad, found)


def bad_fractions(labels: Pointer, n: int, per_block: int, bad: Pointer) -> None:
    """The same for labels that are not 0 to 1."""
    found = NO_ROW
    for i in range(block() * per_block + thread(), min(n, (block() + 1) * per_block), threads()):
        if not is_fraction(labels, i):
            found = min(found, i)
    leave_first(bad, found)


def leave_first(bad: Pointer, found: int) -> None:
    """What a block's threads have found, in its place."""
    found = least_across(of_block(bad), found)
    if thread() == 0:
        store(bad, block(), found)

"""linear_cross_entropy: a linear layer and softmax cross-entropy, without the logits of all rows.

Logits of many classes are by far the largest array of a network: of 4,096 rows and 50,257 classes
they take 823 MB in float32, and their gradient as much again. Here they are never there as a whole:

a. Rows go in blocks. The logits of a block are computed into room for BLOCK bytes, the kernels of
   `softmax_cross_entropy` put their gradient z into their place, and with it the gradients of the
   block are found: dx = z Wᵀ, and xᵀ z, its part of dweight.
b. NumPy's products cannot add to what is there, and a product of dweight's size is too much room:
   they are computed some columns at a time (PANEL bytes) and added from there. This also bounds
   the room that BLAS libraries take for themselves.
c. Ignored rows are left out of the blocks: NaN in them reaches nothing, and they take no time.
d. 16-bit numbers are converted to float32 when they are needed, x and probabilities a block at a
   time and weight a panel. Sums over all blocks stay in float32 until the last block is in them.

The three products are 6·n_rows·n_in·n_classes operations; each block reads weight twice, and reads
and writes dweight once.

Source: Wijmans et al., "Cut Your Losses in Large-Vocabulary Language Models" (2024), and Hsu et
al., "Liger Kernel" (2024), which compute the gradient with the loss, a block of rows at a time.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import Array
from ..checks import as_array, as_values, computed_in, is_float, of_dtype, same_shape
from .linear import _operands
from .row_losses import RowLoss, Targets, reduced, row_loss
from .softmax_cross_entropy import _solve

BLOCK = 64 << 20  # bytes of logits in a block of rows; more if weight is huge, see `_rows_at_once`
PANEL = 8 << 20  # bytes of weight, or of its gradient, that are converted or added at once

Rows = slice | Array  # one after another, or their numbers
Progress = Callable[[int, int], object]

_ONE = np.ones(1)


class Problem(NamedTuple):
    """Checked arguments, as rows."""

    dtype: np.dtype[Any]  # of the computation
    shape: tuple[int, ...]  # of x as it was given
    x: Array  # (n_rows, n_in)
    weight: Array  # (n_in, n_classes); a transposed view if it was given as (n_classes, n_in)
    transposed: bool
    bias: Array | None
    loss: RowLoss  # as if of logits that are all 0
    probabilities: Array | None  # (n_rows, n_classes), of any type of floats
    used: Array | None  # numbers of the rows that count; None if all do
    progress: Progress | None


def linear_cross_entropy(
    x: ArrayLike,
    weight: ArrayLike,
    targets: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    weight_layout: str = "in_out",
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    temperature: float = 1.0,
    reduction: str = "mean",
    empty: str = "nan",
    on_bad_label: str = "raise",
    progress: Progress | None = None,
) -> Any:
    """Cross-entropy of softmax(x W + b) to targets, in little memory.

    Parameters
    ----------
    x : array_like, (…, n_in)
        Values; they decide the dtype: float32, float64, float16 or bfloat16, integers become
        float64.
    weight : array_like, (n_in, n_classes), or (n_classes, n_in) with ``weight_layout="out_in"``
        W.
    targets : array_like, or tuple of two
        As in `softmax_cross_entropy`, for logits of shape (…, n_classes): labels, shaped as x
        without its last axis; probabilities of all classes; or (indices, weights).
    bias : array_like, (n_classes,), optional
        b.
    weight_layout : {"in_out", "out_in"}
        How the axes of weight are meant; PyTorch's is "out_in".
    class_weight, sample_weight, ignore_index, label_smoothing, z_loss, softcap, temperature, \
reduction, empty, on_bad_label
        As in `softmax_cross_entropy`.
    progress : callable, optional
        Called as progress(rows_done, n_rows) after each block of rows. What it raises is passed
        on, which is how to stop.

    Returns
    -------
    number or ndarray
        Of x's dtype, float32 for those of 16 bits; with ``reduction="none"`` shaped as x without
        its last axis.

    Raises
    ------
    TypeError
        If an argument is of a wrong kind.
    ValueError
        If a shape or an option does not fit, or there are rows but no classes.
    IndexError
        For a bad label, naming the first such row.

    Notes
    -----
    Memory: of the logits there is a block of rows at a time. It takes 64 MiB at most, or an eighth
    of what weight takes if that is more, or one row; beside it a block of x and 16 MiB are enough.
    With gradients, 4,096 rows of 512 float32 numbers and 50,257 classes take 73 MB, where logits
    would take 823. Nothing is copied as a whole: a weight of another dtype than x, or with strides
    that BLAS libraries cannot read, is converted in parts, and probabilities of another dtype a
    block at a time (as much again as the logits).

    Accuracy and bits of the logits are those of the BLAS library: the loss is that of logits each
    of which is off by half an eps of (n_in + 1) · (Σ|x_i W_ij| + |b_j|) at most, and within 2 ULP
    beside that. x of 16 bits is computed in float32.

    Examples
    --------
    >>> fastbp.linear_cross_entropy([[1.0, 2.0]], [[0.0, 3.0], [0.0, -1.0]], [0])
    np.float64(1.3132616875182228)
    """
    problem = _checked(
        x, weight, targets, bias, weight_layout, progress, class_weight, sample_weight,
        ignore_index, label_smoothing, z_loss, softcap, temperature, reduction, empty, on_bad_label,
    )  # fmt: skip
    return _solved(problem, None)


def linear_cross_entropy_with_grad(
    x: ArrayLike,
    weight: ArrayLike,
    targets: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    weight_layout: str = "in_out",
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    temperature: float = 1.0,
    reduction: str = "mean",
    empty: str = "nan",
    on_bad_label: str = "raise",
    progress: Progress | None = None,
) -> tuple[Any, tuple[Array, Array, Array | None]]:
    """Cross-entropy of softmax(x W + b) and its gradients, in one pass and little memory.

    Parameters
    ----------
    x, weight, targets, bias, weight_layout, class_weight, sample_weight, ignore_index, \
label_smoothing, z_loss, softcap, temperature, reduction, empty, on_bad_label, progress
        As in `linear_cross_entropy`.

    Returns
    -------
    loss : number or ndarray
        As `linear_cross_entropy`.
    (dx, dweight, dbias) : tuple of ndarray
        Gradients of the loss, shaped as x, weight and bias, all of x's dtype; dbias is None if
        there is no bias. With ``reduction="none"`` they are those of the sum of all rows' losses.

    Raises
    ------
    TypeError, ValueError, IndexError
        As `linear_cross_entropy`.

    Notes
    -----
    Memory beyond the results: as `linear_cross_entropy`. If x has 16 bits, also as much again as
    dweight, which is summed up in float32.

    Ignored rows, and all rows where the mean's denominator is 0, have gradient 0. A row whose loss
    is NaN makes all of dweight and dbias NaN, and its own row of dx.

    Accuracy as in `linear_cross_entropy`: errors of the logits, and in every sum over rows or
    classes half an eps of (number of terms) · Σ|terms|.

    Examples
    --------
    >>> loss, (dx, dweight, dbias) = fastbp.linear_cross_entropy_with_grad(
    ...     [[1.0, 2.0]], [[0.0, 3.0], [0.0, -1.0]], [0]
    ... )
    >>> dx.round(4), dbias
    (array([[ 2.1932, -0.7311]]), None)
    """
    problem = _checked(
        x, weight, targets, bias, weight_layout, progress, class_weight, sample_weight,
        ignore_index, label_smoothing, z_loss, softcap, temperature, reduction, empty, on_bad_label,
    )  # fmt: skip
    gradients = Gradients(problem)
    return _solved(problem, gradients), gradients.results()


def _checked(
    x: ArrayLike,
    weight: ArrayLike,
    targets: Any,
    bias: ArrayLike | None,
    weight_layout: str,
    progress: Progress | None,
    *options: Any,
) -> Problem:
    """Check all arguments, `options` being those of a loss; nothing is computed before."""
    if progress is not None and not callable(progress):
        raise TypeError(f"progress is {progress!r}; expected a function or None")
    x, weight = as_values(x, "x"), as_values(weight, "weight")
    dtype = computed_in(x.dtype)
    _, _, n_classes = _operands(x, _zeros(weight.shape, x.dtype), weight_layout)
    rows_shape = x.shape[:-1]
    n_rows = math.prod(rows_shape)
    if n_rows and not n_classes:
        raise ValueError(f"weight has n_out = 0 ({weight_layout}); expected at least one class")
    if bias is not None:
        bias = of_dtype(as_values(bias, "bias"), dtype)
        same_shape(bias, "bias", (n_classes,), "one row of logits")
    probabilities = None
    if not isinstance(targets, tuple):
        targets = as_array(targets, "targets")
        if is_float(targets.dtype):
            # Only their shape is checked here: they are converted a block at a time.
            probabilities, targets = targets, _zeros(targets.shape, dtype)
    loss = row_loss(_zeros((*rows_shape, n_classes), dtype), targets, -1, *options)
    if probabilities is not None:
        probabilities = probabilities.reshape(n_rows, n_classes)
    transposed = weight_layout == "out_in"
    rows = x.reshape(n_rows, x.shape[-1])
    return Problem(
        dtype, x.shape, rows, weight.T if transposed else weight, transposed, bias, loss,
        probabilities, _used(loss), progress,
    )  # fmt: skip


def _zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array to check shapes with: one row, in every place."""
    return np.broadcast_to(np.zeros(shape[-1:], dtype), shape)


def _used(loss: RowLoss) -> Array | None:
    """Numbers of the rows that are not ignored; None if all are used."""
    indices = loss.targets.indices
    if indices is None or (loss.bad_is_nan and not loss.has_ignore):
        return None
    k = indices.astype(np.int64, copy=False)
    ignored = np.zeros(k.shape, bool)
    if loss.has_ignore:
        ignored |= k == loss.ignore
    if not loss.bad_is_nan:
        ignored |= (k < 0) | (k >= loss.n_classes)
    used = np.flatnonzero(~ignored.any(axis=1))
    return used if used.size < len(k) else None


def _solved(p: Problem, gradients: "Gradients | None") -> Any:
    """The reduced loss; the gradients are added to `gradients`, if that is given."""
    losses = np.zeros(len(p.x), p.dtype)
    step = _rows_at_once(p)
    room = np.empty((step, p.weight.shape[1]), p.dtype)
    for rows, done in _blocks(p, step):
        with np.errstate(all="ignore"):
            x = _as_operand(p.x[rows], p.dtype)
            z = room[: len(x)]
            for columns, weight in _panels(p.weight, p.dtype):
                np.matmul(x, weight, out=z[:, columns])
            if p.bias is not None:
                z += p.bias
            losses[rows] = _losses_of_block(p, rows, z, in_place=gradients is not None)
            if gradients is not None:
                gradients.add(rows, x, z)
        if p.progress is not None:
            p.progress(done, len(p.x))
    if p.loss.reduction == "none":
        return losses.reshape(p.loss.loss_shape)[()]  # of a single row, a number
    with np.errstate(all="ignore"):
        return reduced(np.array([[np.sum(losses, dtype=np.float64), 0.0]]), p.loss)


def _blocks(p: Problem, step: int) -> Iterator[tuple[Rows, int]]:
    """Rows, and how many of all are done after them."""
    n_rows = len(p.x)
    if p.used is None:
        for i in range(0, n_rows, step):
            end = min(i + step, n_rows)
            yield slice(i, end), end
        return
    for i in range(0, len(p.used), step):
        rows = p.used[i : i + step]
        yield rows, int(rows[-1]) + 1 if i + step < len(p.used) else n_rows


def _rows_at_once(p: Problem) -> int:
    """How many rows a block has: as many as BLOCK allows, the same for all blocks but the last.

    Where weight is larger than 8 BLOCK, reading it for a few rows would take longer than to
    compute with them, and beside it more room does not count.
    """
    n_rows = len(p.x) if p.used is None else len(p.used)
    n_in, n_classes = p.weight.shape
    most: int = max(1, BLOCK // max(1, n_classes * p.dtype.itemsize), n_in // 8)
    most = most // 16 * 16 or most  # products are fastest with whole vectors
    n_blocks = max(1, -(-n_rows // most))
    rows = -(-n_rows // n_blocks)
    return max(1, min(most, -(-rows // 16) * 16))


def _losses_of_block(p: Problem, rows: Rows, z: Array, *, in_place: bool) -> Any:
    """The losses of some rows, of their logits z; the gradient by z replaces them if `in_place`."""
    probabilities, indices, given = p.loss.targets
    if p.probabilities is not None:
        probabilities = _as_operand(p.probabilities[rows], p.dtype)
    targets = Targets(
        probabilities,
        indices if indices is None else indices[rows],
        given if given is None else given[rows],
    )
    sample = p.loss.sample_weight
    block = p.loss._replace(
        logits=z, axes=(1,), n_rows=len(z), targets=targets, reduction="none",
        loss_shape=z.shape[:1],
        sample_weight=sample[rows] if sample.size else sample,
    )  # fmt: skip
    return _solve(block, _ONE, z if in_place else None)


class Gradients:
    """Gradients by x, weight and bias, to which blocks of rows are added."""

    def __init__(self, problem: Problem) -> None:
        self._problem = p = problem
        n_in, n_classes = p.weight.shape
        self._dx = np.zeros(p.x.shape, p.x.dtype)
        self._dweight = np.zeros((n_classes, n_in) if p.transposed else (n_in, n_classes), p.dtype)
        self._dbias = np.zeros(0 if p.bias is None else n_classes)
        self._is_first = True

    def add(self, rows: Rows, x: Array, z: Array) -> None:
        """What some rows give, z being the gradient by their logits."""
        p = self._problem
        in_place = isinstance(rows, slice) and p.x.dtype == p.dtype
        dx = self._dx[rows] if in_place else np.empty(x.shape, p.dtype)
        for columns, weight in _panels(p.weight, p.dtype):
            if columns.start == 0:
                np.matmul(z[:, columns], weight.T, out=dx)
            else:
                dx += z[:, columns] @ weight.T
        if not in_place:
            self._dx[rows] = dx
        for columns in _columns(p.weight, p.dtype):
            if p.transposed:
                left, right, part = z[:, columns].T, x, self._dweight[columns]
            else:
                left, right, part = x.T, z[:, columns], self._dweight[:, columns]
            if self._is_first:
                np.matmul(left, right, out=part)
            else:
                part += left @ right
        self._is_first = False
        if p.bias is not None:
            self._dbias += z.sum(axis=0)

    def results(self) -> tuple[Array, Array, Array | None]:
        """(dx, dweight, dbias), of the shapes that were given and of x's dtype."""
        p = self._problem
        dweight = self._dweight
        if p.x.dtype != p.dtype:
            dweight = _narrowed(dweight, p.x.dtype)
        dbias = None if p.bias is None else of_dtype(self._dbias, p.x.dtype)
        return self._dx.reshape(p.shape), dweight, dbias


def _narrowed(wide: Array, dtype: np.dtype[Any]) -> Array:
    """Wide numbers in 16 bits, in half of their own room; the other half is given back."""
    shape, size, step = wide.shape, wide.size, 1 << 20
    numbers = wide.reshape(-1)
    narrow = numbers.view(dtype)[:size]
    with np.errstate(all="ignore"):
        for i in range(0, size, step):  # what is written lies before all that is still to be read
            narrow[i : i + step] = numbers[i : i + step]
    del numbers, narrow
    wide.resize((size + 1) // 2, refcheck=False)  # there are no views of it
    return wide.view(dtype)[:size].reshape(shape)


# operands of products -----------------------------------------------------------------------------


def _as_operand(rows: Array, dtype: np.dtype[Any]) -> Array:
    """Rows as kernels and BLAS libraries read them: contiguous, aligned, of that dtype."""
    return np.require(rows, dtype, ("C_CONTIGUOUS", "ALIGNED"))


def _panels(weight: Array, dtype: np.dtype[Any]) -> Iterator[tuple[slice, Array]]:
    """Columns, and weight there as BLAS libraries read it: all of it, or copies of parts."""
    if weight.dtype == dtype and _is_matrix(weight):
        yield slice(0, weight.shape[1]), weight
        return
    for columns in _columns(weight, dtype):
        yield columns, np.array(weight[:, columns], dtype, order="K")


def _columns(weight: Array, dtype: np.dtype[Any]) -> Iterator[slice]:
    """Columns of weight, so many at a time that in that dtype they take PANEL bytes."""
    n_in, n_classes = weight.shape
    width = max(1, PANEL // max(1, n_in * dtype.itemsize))
    for first in range(0, n_classes, width):
        yield slice(first, min(first + width, n_classes))


def _is_matrix(a: Array) -> bool:
    """Whether it is a matrix of BLAS libraries: one stride is an element, the other a row."""
    (n_rows, n_columns), (down, right), size = a.shape, a.strides, a.itemsize
    by_rows = right == size and down % size == 0 and down >= n_columns * size
    by_columns = down == size and right % size == 0 and right >= n_rows * size
    return a.flags.aligned and (by_rows or by_columns)

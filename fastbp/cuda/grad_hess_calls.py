"""Gradient and Hessian for boosted trees on a GPU: arguments checked, and what is launched.

Labels are checked first, which waits for the GPU: nothing is written if one of them is bad.
"""

from typing import Any, NamedTuple

import numpy as np

from ..checks import HALVES, broadcast, no_class, no_fraction, same_shape
from ..elementary import INFINITY
from . import driver, run
from .arrays import FLOATS, INTEGERS, View, itemsize
from .calls import put_back, result_rows
from .element_calls import changing
from .grad_hess import (
    bad_classes,
    bad_fractions,
    grad_hess_columns,
    grad_hess_rows,
    sigmoid_grad_hess_elements,
)
from .label_losses import NO_ROW, first_bad
from .layouts import (
    as_values,
    finish,
    new,
    new_like,
    numbers_to_read,
    outline,
    place_of,
    room,
    rows_of,
    rows_to_read,
    views_of,
)
from .losses import as_numbers, shaped
from .pairs import as_pair
from .reductions import PER_BLOCK, THREADS
from .run import LONGEST_IN_TILE, TILE, Launch, Numbers, Place, Real
from .staging import SCRATCH

XGBOOST_FLOOR = 1e-16


class Result(NamedTuple):
    """What is returned, and the same memory as the rows of margins."""

    whole: View
    matrix: View
    turned: bool  # whether the axes of what is returned are to be exchanged

    @property
    def owner(self) -> Any:
        """The array for the caller."""
        return self.whole.owner.T if self.turned else self.whole.owner


# rows of classes ----------------------------------------------------------------------------------


def softmax_grad_hess(arrays: dict[str, Any], hessian: str, layout: str) -> tuple[Any, Any]:
    """Gradient and Hessian of softmax cross-entropy."""
    views = views_of({name: x for name, x in arrays.items() if x is not None})
    margins, labels, weight = views["margins"], views["labels"], views.get("sample_weight")
    dtype = as_values(margins, "margins")
    check_classes(labels)
    x = as_matrix(margins, labels.size, layout)
    n_rows, n_classes = x.shape
    if labels.shape != (n_rows,):
        raise ValueError(f"labels has shape {labels.shape}; expected ({n_rows},), one for each row")
    if n_rows and not n_classes:
        raise ValueError(f"margins has shape {margins.shape}; expected at least one class")
    if weight is not None:
        as_values(weight, "sample_weight")
        same_shape(shaped(weight), "sample_weight", (n_rows,), "labels")

    of_sums = type_of_sums(dtype)
    grad, hess = (result_like(margins, x, layout, of_sums) for _ in range(2))
    place = place_of([*views.values(), grad.whole, hess.whole])
    given, labels_owner = numbers_to_read(labels, labels.dtype, place)
    refuse_bad_classes(given, n_rows, n_classes, margins, place)
    if x.size:
        weights, weights_owner = None, None
        if weight is not None:
            weights, weights_owner = numbers_to_read(weight, of_sums, place)
        launch(x, dtype, given, weights, convention(hessian, n_classes, of_sums), grad, hess, place)
        del labels_owner, weights_owner  # what has kept memory until all was launched
    finish(margins, grad.whole, place)
    finish(margins, hess.whole, place)
    return grad.owner, hess.owner


def check_classes(labels: View) -> None:
    """Labels must be integers, or floats that may be whole numbers, in a row."""
    if labels.dtype not in (*INTEGERS, *FLOATS):
        raise TypeError(
            f"labels has dtype {labels.dtype}; expected integers, or floats that are whole numbers"
        )
    if labels.ndim != 1:
        raise ValueError(f"labels has shape {labels.shape}; expected (n_rows,)")


def as_matrix(margins: View, n_rows: int, layout: str) -> View:
    """Margins with a row for each label."""
    by_class = layout == "classes"
    if by_class and margins.ndim == 1:
        size = margins.size
        if size % n_rows if n_rows else size:
            raise ValueError(
                f"margins has length {size}; expected a multiple of {n_rows}, the number of labels"
            )
        return turned(margins, n_rows)
    if margins.ndim != 2:
        flat = " or a flat array" if by_class else ', or layout="classes" for a flat array'
        raise ValueError(f"margins has shape {margins.shape}; expected (n_rows, n_classes){flat}")
    return margins


def turned(flat: View, n_rows: int) -> View:
    """Class-major numbers as rows of classes."""
    n_classes, step = flat.size // n_rows if n_rows else 0, flat.strides[0]
    return flat._replace(shape=(n_rows, n_classes), strides=(step, n_rows * step))


def is_by_class(x: View) -> bool:
    """Whether the numbers of a class lie next to each other, and those of a row do not."""
    return rows_of(x, (1,)) is None and rows_of(x.permuted((1, 0)), (1,)) is not None


def result_like(margins: View, x: View, layout: str, dtype: str) -> Result:
    """A new array in the order of margins; by the layout "classes", class-major."""
    n_rows, n_classes = x.shape
    if margins.ndim == 1:
        flat = new((margins.size,), dtype, margins)
        return Result(flat, turned(flat, n_rows), turned=False)
    by_class = is_by_class(x)
    if by_class or layout == "rows":
        made = new_like(margins, dtype)
        if not by_class or is_by_class(made):
            return Result(made, made, turned=False)
    made = new((n_classes, n_rows), dtype, margins)
    return Result(made, made.permuted((1, 0)), turned=True)


def launch(
    x: View, dtype: str, labels: Numbers, weights: Numbers | None, convention_of: tuple[Any, Any],
    grad: Result, hess: Result, place: Place,
) -> None:  # fmt: skip
    """The kernel for rows, or that for columns, if rows are short and numbers of a class lie so."""
    n_rows, n_classes = x.shape
    columns = [rows_of(a.permuted((1, 0)), (1,)) for a in (x, grad.matrix, hess.matrix)]
    if is_by_class(x) and x.dtype == dtype and n_classes <= LONGEST_IN_TILE and None not in columns:
        shape = run.geometry(TILE, n_rows, n_classes, 2, dtype)
        arguments = (columns[0], labels, weights, *convention_of, *columns[1:])
        most = run.most_threads(dtype, TILE)
        run.execute(grad_hess_columns, TILE, shape, most, place, arguments)
        return
    rows, owner = rows_to_read(x, (1,), dtype, place)
    (g, g_written), (h, h_written) = (result_rows(a.matrix, (1,), place) for a in (grad, hess))
    run.launch_rows(grad_hess_rows, 2, dtype, place, rows, labels, weights, *convention_of, g, h)
    put_back(g_written, grad.matrix, (1,), place)
    put_back(h_written, hess.matrix, (1,), place)
    del owner


def convention(hessian: str, n_classes: int, dtype: str) -> tuple[Any, Any]:
    """A Hessian is max(share·p·(1 - p)·w, floor); the share is a pair."""
    if hessian == "xgboost":
        return as_pair(2.0, 1.0, dtype), Real(XGBOOST_FLOOR, dtype)
    if hessian == "lightgbm" and n_classes > 1:
        return as_pair(float(n_classes), float(n_classes - 1), dtype), Real(-INFINITY, dtype)
    return as_pair(1.0, 1.0, dtype), Real(-INFINITY, dtype)


# numbers ------------------------------------------------------------------------------------------


def sigmoid_grad_hess(arrays: dict[str, Any]) -> tuple[Any, Any]:
    """Gradient and Hessian of sigmoid cross-entropy."""
    views = views_of({name: x for name, x in arrays.items() if x is not None})
    margins, labels, weight = views["margins"], views["labels"], views.get("sample_weight")
    dtype = as_values(margins, "margins")
    as_values(labels, "labels")
    same_shape(shaped(labels), "labels", margins.shape, "margins")
    if weight is not None:
        as_values(weight, "sample_weight")
        broadcast(outline(weight), "sample_weight", margins.shape, "margins")

    of_sums = type_of_sums(dtype)
    grad, hess = new_like(margins, of_sums), new_like(margins, of_sums)
    place = place_of([*views.values(), grad, hess])
    refuse_bad_fractions(labels, margins, place)
    n, everything = margins.size, tuple(range(margins.ndim))
    if n:
        # Numbers of 16 bits are read as they are, whatever they are computed with.
        read_as = labels.dtype if labels.dtype in HALVES and of_sums == "float32" else of_sums
        x, x_owner = numbers_to_read(margins, dtype, place)
        y, y_owner = numbers_to_read(labels, read_as, place)
        weights, run_length, period, weights_owner = None, 1, 1, None
        if weight is not None:
            values, run_length, period = changing(weight, margins.shape)
            weights, weights_owner = numbers_to_read(values, of_sums, place)
        (g, g_written), (h, h_written) = (result_rows(a, everything, place) for a in (grad, hess))
        run.launch_elements(
            sigmoid_grad_hess_elements, n, place, n, x, y, weights, run_length, period,
            Numbers(g.address, of_sums), Numbers(h.address, of_sums),
        )  # fmt: skip
        put_back(g_written, grad, everything, place)
        put_back(h_written, hess, everything, place)
        del x_owner, y_owner, weights_owner
    finish(margins, grad, place)
    finish(margins, hess, place)
    return grad.owner, hess.owner


# bad labels ---------------------------------------------------------------------------------------


def type_of_sums(dtype: str) -> str:
    """What numbers of a type are computed with, and of what the results are."""
    return run.computed(dtype)


def refuse_bad_classes(
    labels: Numbers, n_rows: int, n_classes: int, like: View, place: Place
) -> None:
    """An error if a label is none of the classes."""
    found = first_of(bad_classes, labels, n_rows, (n_classes,), like, place)
    if found is not None:
        raise no_class(fetched(labels, found, place), found, n_classes)


def refuse_bad_fractions(labels: View, like: View, place: Place) -> None:
    """An error if a label is not 0 to 1."""
    kind = "uint8" if labels.dtype == "bool" else labels.dtype
    numbers, owner = numbers_to_read(labels._replace(dtype=kind), kind, place)
    found = first_of(bad_fractions, numbers, labels.size, (), like, place)
    if found is not None:
        label = fetched(numbers, found, place)
        raise no_fraction(label if kind in FLOATS else np.float64(label), found, labels.shape)
    del owner


def first_of(
    kernel: Any, labels: Numbers, n: int, more: tuple[int, ...], like: View, place: Place
) -> int | None:
    """Wait for the first bad label, if there is one."""
    if not n:
        return None
    blocks = -(-n // PER_BLOCK)
    bad = room((blocks,), "int64", like, place)
    execute(kernel, blocks, place, labels, n, PER_BLOCK, *more, as_numbers(bad))
    if blocks > 1:
        of_all = room((1,), "int64", like, place)
        execute(first_bad, 1, place, as_numbers(bad), blocks, as_numbers(of_all))
        bad = of_all
    found = driver.fetch(bad.address, 8, place.stream, place.device)
    row = int(np.frombuffer(found, np.int64)[0])
    return None if row == NO_ROW else row


def execute(kernel: Any, blocks: int, place: Place, *arguments: Any) -> None:
    """Launch a kernel of numbers."""
    shape = Launch(blocks, THREADS, SCRATCH)
    run.execute(kernel, TILE, shape, THREADS, place, arguments)


def fetched(numbers: Numbers, i: int, place: Place) -> Any:
    """One of the numbers, brought to the host; those of 16 bits become float64."""
    size = itemsize(numbers.dtype)
    found = driver.fetch(numbers.address + i * size, size, place.stream, place.device)
    if numbers.dtype == "bfloat16":
        bits = np.frombuffer(found, np.uint16).astype(np.uint32) << 16
        return np.float64(bits.view(np.float32)[0])
    number = np.frombuffer(found, numbers.dtype)[0]
    return np.float64(number) if numbers.dtype == "float16" else number

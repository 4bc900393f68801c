"""Gradient and Hessian of cross-entropy for boosted trees: of rows of classes, and of numbers."""

from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import Array, in_one_order, rows_of
from ..checks import (
    as_array,
    as_values,
    broadcast,
    computed_in,
    native,
    no_class,
    no_fraction,
    of_dtype,
    one_of,
    same_shape,
)
from ..cpu.elementwise import GRAIN
from ..cpu.grad_hess import first_bad_label, grad_hess_rows, sigmoid_grad_hess_elements
from ..cpu.run import launch, serial
from ..cuda.arrays import is_on_device
from ..elementary import INFINITY

HESSIANS = ("exact", "xgboost", "lightgbm")
LAYOUTS = ("rows", "classes")
XGBOOST_FLOOR = 1e-16
# Ranges of so many short rows do not share cache lines to speak of; longer ones are worth a range.
SHORT, GRAIN_OF_SHORT = 32, 64


def softmax_cross_entropy_grad_hess(
    margins: ArrayLike,
    labels: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    hessian: str = "exact",
    layout: str = "rows",
) -> tuple[Array, Array]:
    """Gradient and diagonal Hessian of softmax cross-entropy by each margin, in one pass.

    Parameters
    ----------
    margins : array_like, (n_rows, n_classes)
        Raw scores, before any softmax; float32, float64, float16 or bfloat16, integers become
        float64. With ``layout="classes"`` also flat, of length n_classes · n_rows.
    labels : array_like, (n_rows,)
        The rows' classes: integers of any width, or floats that are whole numbers.
    sample_weight : array_like, (n_rows,), optional
        Multiplies the row's gradient and Hessian.
    hessian : {"exact", "xgboost", "lightgbm"}
        w p (1 - p); max(2 w p (1 - p), 1e-16), as XGBoost has it; or w p (1 - p) K / (K - 1), as
        LightGBM has it for K classes. A single class has 0, and 1e-16 with "xgboost".
    layout : {"rows", "classes"}
        "rows": margins and results are (n_rows, n_classes). "classes": margins and results are
        flat and class-major, class c of row i at c · n_rows + i; if margins are (n_rows, n_classes)
        nevertheless, so are the results, class-major in memory.

    Returns
    -------
    grad, hess : ndarray
        Shaped as margins, and in their order in memory; of their dtype, for float16 and bfloat16
        float32.

    Raises
    ------
    TypeError
        If an argument is of a wrong kind.
    ValueError
        If a shape or an option does not fit, there are rows but no classes, or a label is no whole
        number.
    IndexError
        If a label is none of the classes, naming the first such row.

    Notes
    -----
    grad = (p - onehot) w, p = softmax(margins), is within 2 ULP and hess within 2.5 ULP (measured:
    1.8 and 2.1), with weights too; where p is a subnormal number, w ULP of p count as one. 1 - p is
    what the other classes hold, so that confident rows keep their digits: [20, 0, 0] has p (1 - p)
    = 4.122307e-09 for the first class in float32, not 0. Margins may have any size, where XGBoost's
    own objective learns nothing from rows of margins below -104. A NaN or +inf makes its row NaN
    and no other. On a GPU, the labels are looked at before anything is written, which waits for it.

    What the libraries hand to a custom objective, and expect of it:

    * XGBoost (2.1 and newer) has float32 margins (n_rows, n_classes) and float32 labels, in
      ``obj(margins, dtrain)`` as in scikit-learn's ``objective(labels, margins)``: the default
      layout, with ``hessian="xgboost"``.
    * LightGBM 4 has float64 margins (n_rows, n_classes), class-major in memory, and float32
      labels, in both of its interfaces: either layout, without a copy, and the results are
      class-major too. Older versions and the C interface have flat arrays: ``layout="classes"``.
      Both with ``hessian="lightgbm"``.

    Sources: Friedman, "Greedy function approximation" (2001), for Newton steps on p (1 - p); the
    factors of 2 and K / (K - 1) are those of both libraries' own objectives.

    Examples
    --------
    >>> grad, hess = fastbp.softmax_cross_entropy_grad_hess([[0.0, 0.0], [40.0, 0.0]], [1.0, 0.0])
    >>> grad
    array([[ 5.00000000e-01, -5.00000000e-01],
           [-4.24835426e-18,  4.24835426e-18]])
    >>> hess
    array([[2.50000000e-01, 2.50000000e-01],
           [4.24835426e-18, 4.24835426e-18]])
    """
    one_of(hessian, "hessian", HESSIANS)
    one_of(layout, "layout", LAYOUTS)
    if is_on_device(margins):
        arrays = {"margins": margins, "labels": labels, "sample_weight": sample_weight}
        on_device: tuple[Array, Array] = _on_gpu().softmax_grad_hess(arrays, hessian, layout)
        return on_device
    margins = as_values(margins, "margins")
    labels = _labels(labels)
    x, by_class = _as_matrix(margins, labels, layout)
    n_classes, n_rows = x.shape if by_class else x.shape[::-1]
    if labels.shape != (n_rows,):
        raise ValueError(f"labels has shape {labels.shape}; expected ({n_rows},), one for each row")
    if n_rows and not n_classes:
        raise ValueError(f"margins has shape {margins.shape}; expected at least one class")
    weight = None
    if sample_weight is not None:
        weight = of_dtype(as_values(sample_weight, "sample_weight"), x.dtype)
        same_shape(weight, "sample_weight", (n_rows,), "labels")
    bad = serial(first_bad_label, labels.dtype.char, n_rows, n_classes, labels)
    if bad >= 0:
        raise no_class(labels[bad], bad, n_classes)

    grad, hess = np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype)
    key = (x.dtype.char, labels.dtype.char, weight is None)
    grain = GRAIN_OF_SHORT if n_classes <= SHORT else 1
    launch(
        grad_hess_rows, key, n_rows, x.size, grain,
        x, labels, weight, by_class, *_convention(hessian, n_classes), grad, hess,
    )  # fmt: skip
    if margins.ndim == 1:
        return grad.reshape(-1), hess.reshape(-1)
    return (grad.T, hess.T) if by_class else (grad, hess)


def sigmoid_cross_entropy_grad_hess(
    margins: ArrayLike, labels: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Gradient and Hessian of sigmoid cross-entropy by each margin, in one pass.

    Parameters
    ----------
    margins : array_like
        Raw scores of any shape, before any sigmoid; float32, float64, float16 or bfloat16, integers
        become float64.
    labels : array_like, shaped as margins
        0 to 1: classes, or probabilities.
    sample_weight : array_like, optional
        Multiplies gradient and Hessian; it broadcasts to margins, so that weights of the rows of a
        matrix are given as ``sample_weight[:, None]``.

    Returns
    -------
    grad, hess : ndarray or number
        Shaped as margins; of their dtype, for float16 and bfloat16 float32.

    Raises
    ------
    TypeError
        If an argument is of a wrong kind.
    ValueError
        If a shape does not fit, or a label is outside 0 to 1 or NaN, naming the first such place.

    Notes
    -----
    grad = (σ(x) - y) w, hess = σ(x) (1 - σ(x)) w, both exact in both tails: σ(x) - 1 at 40 is
    -4.248354e-18, not 0. grad is within 2 ULP, hess within 2.5 ULP (measured: 1.7 and 2.3; 0.8 and
    1.5 without weights); of labels between 0 and 1, in ULP of the larger of (1 - y) σ(x) w and
    y σ(-x) w, whose difference grad is. Where p is a subnormal number, w ULP of p count as one. NaN
    gives NaN, ±inf the limits. On a GPU, the labels are looked at first, which waits for it.

    XGBoost and LightGBM hand flat margins to the custom objective of two classes, and take both
    results as they are; their own objectives have the same Hessian. Source: with z = exp(-|x|),
    σ' = z / (1 + z)².

    Examples
    --------
    >>> grad, hess = fastbp.sigmoid_cross_entropy_grad_hess([0.0, 40.0], [0, 1])
    >>> grad
    array([ 5.00000000e-01, -4.24835426e-18])
    >>> hess
    array([2.50000000e-01, 4.24835426e-18])
    """
    if is_on_device(margins):
        arrays = {"margins": margins, "labels": labels, "sample_weight": sample_weight}
        on_device: tuple[Array, Array] = _on_gpu().sigmoid_grad_hess(arrays)
        return on_device
    margins = as_values(margins, "margins")
    y = as_values(labels, "labels")
    same_shape(y, "labels", margins.shape, "margins")
    x = of_dtype(margins, computed_in(margins.dtype))
    weight = None
    if sample_weight is not None:
        weight = of_dtype(as_values(sample_weight, "sample_weight"), x.dtype)
        weight = broadcast(weight, "sample_weight", x.shape, "margins")
    _check_fractions(y)
    grad, hess = np.empty_like(x, subok=False), np.empty_like(x, subok=False)
    given = [x, of_dtype(y, x.dtype), *([] if weight is None else [weight])]
    flat = [*given, grad, hess]
    if not in_one_order(flat):  # through copies
        flat = [*(np.ravel(a) for a in given), np.empty(x.size, x.dtype), np.empty(x.size, x.dtype)]
    x_, y_, *weights, g, h = flat
    key = (x.dtype.char, g.ndim, weight is None)
    arguments = (x_, y_, weights[0] if weights else None, g, h)
    launch(sigmoid_grad_hess_elements, key, x.size, x.size, GRAIN, *arguments)
    if g is not grad:
        grad[...], hess[...] = g.reshape(x.shape), h.reshape(x.shape)
    return (grad, hess) if x.ndim else (grad[()], hess[()])


def _on_gpu() -> Any:
    """The module that does the same on a GPU."""
    from ..cuda import grad_hess_calls

    return grad_hess_calls


# arguments ----------------------------------------------------------------------------------------


def _labels(labels: Any) -> Array:
    """Integers, or floats that kernels can read."""
    array = as_array(labels, "labels")
    if array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
    if array.dtype.kind not in "iuf":
        raise TypeError(
            f"labels has dtype {array.dtype}; expected integers, or floats that are whole numbers"
        )
    if array.ndim != 1:
        raise ValueError(f"labels has shape {array.shape}; expected (n_rows,)")
    if array.dtype.kind == "f" and array.dtype.itemsize not in (4, 8):
        return array.astype(np.float64)
    return native(array)


def _as_matrix(margins: Array, labels: Array, layout: str) -> tuple[Array, bool]:
    """Margins with contiguous rows, and whether these are the classes'."""
    n_rows = labels.size
    by_class = layout == "classes"
    if by_class and margins.ndim == 1:
        if margins.size % n_rows if n_rows else margins.size:
            raise ValueError(
                f"margins has length {margins.size}; expected a multiple of {n_rows}, the number "
                "of labels"
            )
        shape = (margins.size // n_rows if n_rows else 0, n_rows)
        x = margins.reshape(shape)
    elif margins.ndim == 2:
        flags = margins.flags
        by_class = by_class or (flags.f_contiguous and not flags.c_contiguous)
        x = margins.T if by_class else margins
    else:
        flat = " or a flat array" if by_class else ', or layout="classes" for a flat array'
        raise ValueError(f"margins has shape {margins.shape}; expected (n_rows, n_classes){flat}")
    return rows_of(of_dtype(x, computed_in(x.dtype)), (1,)), by_class


class Convention(NamedTuple):
    """A Hessian is max((share + share_lo)·p·(1 - p)·w, floor)."""

    share: float
    share_lo: float
    floor: float


def _convention(hessian: str, n_classes: int) -> Convention:
    if hessian == "xgboost":
        return Convention(2.0, 0.0, XGBOOST_FLOOR)
    if hessian == "lightgbm" and n_classes > 1:
        exact = Fraction(n_classes, n_classes - 1)
        share = float(exact)
        return Convention(share, float(exact - Fraction(share)), -INFINITY)
    return Convention(1.0, 0.0, -INFINITY)


def _check_fractions(y: Array) -> None:
    """All of them must be 0 to 1."""
    with np.errstate(invalid="ignore"):
        # min and max are NaN if one of the numbers is.
        if not y.size or (y.min() >= 0 and y.max() <= 1):
            return
        bad = int(np.argmin((y >= 0) & (y <= 1)))
    raise no_fraction(y.flat[bad], bad, y.shape)

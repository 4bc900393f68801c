"""linear and its backward pass: the products are those of NumPy's BLAS library."""

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import Array
from ..checks import as_values, computed_in, of_dtype, one_of, same_shape

LAYOUTS = ("in_out", "out_in")


def linear(
    x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None, *, weight_layout: str = "in_out"
) -> Array:
    """Affine map of the last axis: y = x W + b, or x Wᵀ + b.

    Parameters
    ----------
    x : array_like, (…, n_in)
        Values; they decide the dtype: float32, float64, float16 or bfloat16, integers become
        float64.
    weight : array_like, (n_in, n_out), or (n_out, n_in) with ``weight_layout="out_in"``
        W.
    bias : array_like, (n_out,), optional
        b.
    weight_layout : {"in_out", "out_in"}
        How the axes of weight are meant; PyTorch's is "out_in".

    Returns
    -------
    ndarray, (…, n_out)
        y, of x's dtype.

    Raises
    ------
    TypeError
        If an argument is complex, an object, a string or of another float type.
    ValueError
        If the shapes do not fit, or weight_layout is another word.

    Notes
    -----
    Accuracy and bits are those of the BLAS library behind NumPy. With x of 16 bits all is computed
    in float32, and y is rounded once: within 0.5 ULP of what that library would return in float32.

    Examples
    --------
    >>> fastbp.linear([[1.0, 2.0]], [[1.0], [10.0]], [0.5])
    array([[21.5]])
    """
    x, w, n_out = _operands(x, weight, weight_layout)
    dtype = computed_in(x.dtype)
    b = None
    if bias is not None:
        b = of_dtype(as_values(bias, "bias"), dtype)
        same_shape(b, "bias", (n_out,), "one row of the result")
    with np.errstate(all="ignore"):
        y = of_dtype(x, dtype) @ of_dtype(w, dtype)
        if b is not None:
            y += b
    return of_dtype(y, x.dtype)


def linear_backward(
    dy: ArrayLike, x: ArrayLike, weight: ArrayLike, *, weight_layout: str = "in_out"
) -> tuple[Array, Array, Array]:
    """Gradients of linear: dx = dy Wᵀ, dW = xᵀ dy, db = Σ dy.

    Parameters
    ----------
    dy : array_like, (…, n_out)
        Gradient by y; decides the dtype, as x does in `linear`.
    x : array_like, (…, n_in)
        What `linear` was given.
    weight : array_like, (n_in, n_out), or (n_out, n_in) with ``weight_layout="out_in"``
        W.
    weight_layout : {"in_out", "out_in"}
        As it was given to `linear`.

    Returns
    -------
    dx, dweight, dbias : ndarray
        Shaped as x, weight and (n_out,), of dy's dtype.

    Raises
    ------
    TypeError, ValueError
        As `linear`.

    Notes
    -----
    dweight and dbias sum over all rows of x. Accuracy and bits are those of the BLAS library. With
    dy of 16 bits all is computed in float32, and each result is rounded once.

    Examples
    --------
    >>> dx, dweight, dbias = fastbp.linear_backward([[1.0]], [[1.0, 2.0]], [[3.0], [4.0]])
    >>> dx, dweight.ravel(), dbias
    (array([[3., 4.]]), array([1., 2.]), array([1.]))
    """
    given = as_values(dy, "dy")
    x, w, n_out = _operands(x, weight, weight_layout)
    same_shape(given, "dy", (*x.shape[:-1], n_out), "linear's result")
    dtype = computed_in(given.dtype)
    dy, x, w = (of_dtype(array, dtype) for array in (given, x, w))
    rows, dy_rows = x.reshape(-1, x.shape[-1]), dy.reshape(-1, n_out)
    with np.errstate(all="ignore"):
        dx, dbias = dy @ w.T, dy_rows.sum(axis=0)
        dweight = rows.T @ dy_rows if weight_layout == "in_out" else dy_rows.T @ rows
    return (
        of_dtype(dx, given.dtype),
        of_dtype(dweight, given.dtype),
        of_dtype(dbias, given.dtype),
    )


def _operands(x: ArrayLike, weight: ArrayLike, weight_layout: str) -> tuple[Array, Array, int]:
    """x, W as (n_in, n_out), each of its own dtype, and n_out."""
    one_of(weight_layout, "weight_layout", LAYOUTS)
    x, w = as_values(x, "x"), as_values(weight, "weight")
    if x.ndim == 0:
        raise ValueError("x is a single number; expected an array with a last axis of n_in")
    if w.ndim != 2:
        raise ValueError(f"weight is {w.ndim}-D; expected 2-D")
    w = w if weight_layout == "in_out" else w.T
    if w.shape[0] != x.shape[-1]:
        raise ValueError(
            f"weight has n_in = {w.shape[0]} ({weight_layout}); "
            f"expected {x.shape[-1]}, the length of x's last axis"
        )
    return x, w, w.shape[1]

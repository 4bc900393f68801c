"""sigmoid, log_sigmoid and their backward passes: elementwise."""

from typing import Any

from numpy.typing import ArrayLike

from ..arrays import Array
from ..cpu import elementwise
from ..formulas.sigmoid import (
    log_sigmoid as log_sigmoid_formula,
    log_sigmoid_backward as log_sigmoid_backward_formula,
    sigmoid as sigmoid_formula,
    sigmoid_backward_of_input,
    sigmoid_backward_of_output,
    sigmoid_quickly,
)
from .calls import map_one, map_two

sigmoid_kernel = elementwise.map_one(sigmoid_formula)
sigmoid_kernel_of_16_bits = elementwise.map_one(sigmoid_quickly)
log_sigmoid_kernel = elementwise.map_one(log_sigmoid_formula)
sigmoid_backward_of_input_kernel = elementwise.map_two(sigmoid_backward_of_input)
sigmoid_backward_of_output_kernel = elementwise.map_two(sigmoid_backward_of_output)
log_sigmoid_backward_kernel = elementwise.map_two(log_sigmoid_backward_formula)


def sigmoid(x: ArrayLike, *, out: Array | None = None) -> Any:
    """Logistic sigmoid of each element: y = 1 / (1 + exp(-x)).

    Parameters
    ----------
    x : array_like
        Values of any shape; float32, float64, float16 or bfloat16, integers and bools become
        float64.
    out : ndarray, optional
        Where to write the result, of x's shape and dtype; it may be x.

    Returns
    -------
    ndarray or number
        Shaped as x, of its dtype.

    Raises
    ------
    TypeError
        If x is complex, an object, a string or of another float type, or out has another dtype.
    ValueError
        If out has another shape or overlaps x partly.

    Notes
    -----
    Within 1 ULP (measured: 0.97) over all numbers, subnormal results included: sigmoid(-100) in
    float32 is 3.78e-44, not 0; of 16 bits, which are computed in float32, within 0.501 ULP. ±inf
    give exactly 1 and 0, NaN gives NaN. Source: computed from exp(-|x|), so that nothing overflows.

    Examples
    --------
    >>> fastbp.sigmoid([0.0, 2.0])
    array([0.5       , 0.88079708])
    """
    return map_one(sigmoid_kernel, x, out, sigmoid_kernel_of_16_bits)


def sigmoid_backward(
    dy: ArrayLike,
    y: ArrayLike | None = None,
    *,
    x: ArrayLike | None = None,
    out: Array | None = None,
) -> Any:
    """Gradient of sigmoid: dx = dy · y (1 - y), from its output y or its input x.

    Parameters
    ----------
    dy : array_like
        Gradient by y; decides the dtype.
    y : array_like, optional
        What `sigmoid` returned, shaped as dy.
    x : array_like, optional
        What it was given, shaped as dy. Give exactly one of y and x.
    out : ndarray, optional
        Where to write the result, of dy's shape and dtype; it may be any of the inputs.

    Returns
    -------
    ndarray or number
        dx, shaped as dy.

    Raises
    ------
    TypeError
        If both or neither of y and x are given; else as `sigmoid`.
    ValueError
        If the shapes differ; else as `sigmoid`.

    Notes
    -----
    From x it is exact in both tails: dy · z / (1 + z)², z = exp(-|x|), σ' within 1.6 ULP. From y it
    is 0 wherever y has been rounded to 1, that is from x = 17 (float32), 37 (float64), 8.3
    (float16) or 6.3 (bfloat16). Results of 16 bits are within 0.501 ULP for the y given.

    Examples
    --------
    >>> fastbp.sigmoid_backward(1.0, 0.5)
    np.float64(0.25)
    """
    if (y is None) == (x is None):
        raise TypeError(f"{'neither' if y is None else 'both'} of y and x given; expected one")
    if x is not None:
        return map_two(sigmoid_backward_of_input_kernel, dy, x, "dy x", out)
    return map_two(sigmoid_backward_of_output_kernel, dy, y, "dy y", out)


def log_sigmoid(x: ArrayLike, *, out: Array | None = None) -> Any:
    """Logarithm of the sigmoid of each element: y = -log(1 + exp(-x)).

    Parameters
    ----------
    x : array_like
        Values of any shape; float32, float64, float16 or bfloat16, integers and bools become
        float64.
    out : ndarray, optional
        Where to write the result, of x's shape and dtype; it may be x.

    Returns
    -------
    ndarray or number
        Shaped as x, of its dtype.

    Raises
    ------
    TypeError, ValueError
        As `sigmoid`.

    Notes
    -----
    Within 1 ULP over all numbers, of 16 bits within 0.501. -inf gives -inf, +inf gives -0, NaN
    gives NaN.
    Source: -(max(-x, 0) + log1p(exp(-|x|))), as Mächler, "Accurately computing log(1 - exp(-|a|))"
    (2012), has it for log(1 + exp).

    Examples
    --------
    >>> fastbp.log_sigmoid([0.0, -800.0])
    array([-6.93147181e-01, -8.00000000e+02])
    """
    return map_one(log_sigmoid_kernel, x, out)


def log_sigmoid_backward(dy: ArrayLike, x: ArrayLike, *, out: Array | None = None) -> Any:
    """Gradient of log_sigmoid: dx = dy · sigmoid(-x).

    Parameters
    ----------
    dy : array_like
        Gradient by the output; decides the dtype.
    x : array_like
        What `log_sigmoid` was given, shaped as dy.
    out : ndarray, optional
        Where to write the result, of dy's shape and dtype; it may be any of the inputs.

    Returns
    -------
    ndarray or number
        dx, shaped as dy.

    Raises
    ------
    TypeError, ValueError
        As `sigmoid`; and if x is not shaped as dy.

    Notes
    -----
    sigmoid(-x) within 1 ULP, and one more rounding for the product; of 16 bits within 0.501 ULP.

    Examples
    --------
    >>> fastbp.log_sigmoid_backward(1.0, 0.0)
    np.float64(0.5)
    """
    return map_two(log_sigmoid_backward_kernel, dy, x, "dy x", out)

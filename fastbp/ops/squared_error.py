"""squared_error: (pred - target)² of each element, or half of it.

Source: Bishop, "Pattern Recognition and Machine Learning" (2006), equation 1.2, which has the half.
"""

from typing import Any

from numpy.typing import ArrayLike

from ..arrays import Array
from ..cpu.elementwise_losses import loss_blocks
from ..formulas import elementwise_losses as formulas
from .element_losses import Kernels, gradient_of, loss_and_gradient, loss_of

whole_kernels = (loss_blocks(formulas.squared_error, formulas.squared_error_gradient),)
half_kernels = (loss_blocks(formulas.half_squared_error, formulas.half_squared_error_gradient),)
NAMES = "pred target"


def squared_error(
    pred: ArrayLike, target: ArrayLike, *, half: bool = False, reduction: str = "mean"
) -> Any:
    """Squared difference of each element: (pred - target)², or half of it.

    Parameters
    ----------
    pred : array_like
        Predictions of any shape; float32, float64, float16 or bfloat16, integers and bools become
        float64.
    target : array_like, shaped as pred
        What they should be.
    half : bool
        Whether the loss has a factor of 1/2, which makes its gradient pred - target.
    reduction : {"mean", "sum", "none"}
        "mean" is that of all elements, NaN if there are none.

    Returns
    -------
    number or ndarray
        Of pred's dtype, float32 for those of 16 bits; with ``reduction="none"`` shaped as pred.

    Raises
    ------
    TypeError
        If an argument is of a wrong kind.
    ValueError
        If a shape or an option does not fit.

    Notes
    -----
    An element's loss is within 1 ULP (measured: 0.51), the mean of many within 1.5 ULP. NaN gives
    NaN, and so do equal infinities.

    Examples
    --------
    >>> fastbp.squared_error([1.0, 2.0, 5.0], [1.0, 0.0, 6.0], reduction="none")
    array([0., 4., 1.])
    """
    return loss_of(_kernels(half), NAMES, pred, target, reduction)


def squared_error_with_grad(
    pred: ArrayLike,
    target: ArrayLike,
    *,
    half: bool = False,
    reduction: str = "mean",
    out: Array | None = None,
) -> tuple[Any, Array]:
    """Squared difference of each element and its gradient, in one pass.

    Parameters
    ----------
    pred, target, half, reduction
        As in `squared_error`.
    out : ndarray, optional
        Where to write the gradient, of pred's shape and dtype; it may be pred.

    Returns
    -------
    loss : number or ndarray
        As `squared_error`.
    dpred : ndarray
        Gradient of the loss, shaped as pred; with ``reduction="none"`` each element's own.

    Raises
    ------
    TypeError, ValueError
        As `squared_error`; also if out does not fit.

    Notes
    -----
    dpred = 2 (pred - target), or with half pred - target, over the number of elements if
    reduction is "mean"; within 1 ULP, of 16 bits within 0.501.

    Examples
    --------
    >>> fastbp.squared_error_with_grad([1.0, 2.0], [1.0, 0.0], half=True)
    (np.float64(1.0), array([0., 1.]))
    """
    return loss_and_gradient(_kernels(half), NAMES, pred, target, out, reduction)


def squared_error_backward(
    dloss: ArrayLike,
    pred: ArrayLike,
    target: ArrayLike,
    *,
    half: bool = False,
    reduction: str = "mean",
    out: Array | None = None,
) -> Any:
    """Gradient of squared_error, given the gradient by its loss.

    Parameters
    ----------
    dloss : array_like
        Gradient by the loss, shaped as the loss.
    pred, target, half, reduction
        As they were given to `squared_error`.
    out : ndarray, optional
        Where to write the gradient, of pred's shape and dtype; it may be pred.

    Returns
    -------
    ndarray
        dpred, shaped as pred.

    Raises
    ------
    TypeError, ValueError
        As `squared_error`; also if dloss or out does not fit.

    Notes
    -----
    As `squared_error_with_grad`, times dloss; within 1 ULP.

    Examples
    --------
    >>> fastbp.squared_error_backward(1.0, [1.0, 2.0], [1.0, 0.0])
    array([0., 2.])
    """
    return gradient_of(_kernels(half), NAMES, dloss, pred, target, out, reduction)


def _kernels(half: bool) -> Kernels:
    return half_kernels if half else whole_kernels

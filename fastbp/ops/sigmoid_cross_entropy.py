"""sigmoid_cross_entropy: sigmoid and cross-entropy fused, for one or many independent labels.

    loss = (1 - t)·log(1 + e^x) + pos_weight·t·log(1 + e^-x), times sample_weight

a. Both logarithms are log(1 + e^-|x|), one of them plus |x|: terms >= 0 of which none cancels.
b. The gradient, (1 - t)·σ(x) - pos_weight·t·σ(-x), is one quotient over 1 + e^-|x|: of a hard
   target one of its terms is exactly 0, so that both tails keep all their digits.

Source: Bishop, "Pattern Recognition and Machine Learning" (2006), equations 4.90 and 4.91;
pos_weight as in PyTorch's BCEWithLogitsLoss.
"""

from typing import Any

from numpy.typing import ArrayLike

from ..arrays import Array
from ..cpu.elementwise_losses import loss_blocks
from ..formulas.elementwise_losses import (
    sigmoid_gradient,
    sigmoid_loss,
    weighted_sigmoid_gradient,
    weighted_sigmoid_loss,
)
from .element_losses import gradient_of, loss_and_gradient, loss_of

kernels = (
    loss_blocks(sigmoid_loss, sigmoid_gradient),
    loss_blocks(weighted_sigmoid_loss, weighted_sigmoid_gradient, weighted=True),
)
NAMES = "logits targets"


def sigmoid_cross_entropy(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    pos_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
    empty: str = "nan",
) -> Any:
    """Cross-entropy of sigmoid(logits) to targets: -t log σ(x) - (1 - t) log σ(-x).

    Parameters
    ----------
    logits : array_like
        Scores of any shape; float32, float64, float16 or bfloat16, integers and bools become
        float64.
    targets : array_like, shaped as logits
        Probabilities, 0 to 1; hard labels are 0 and 1, of any dtype.
    pos_weight : array_like that broadcasts to logits, optional
        Multiplies the part of t: (n_classes,) for one weight per column.
    sample_weight : array_like that broadcasts to logits, optional
        Multiplies an element's loss.
    reduction : {"mean", "sum", "none"}
        "mean" divides by the sum of sample_weight over all elements, 1 each if not given.
    empty : {"nan", "zero"}
        The mean where that sum is 0.

    Returns
    -------
    number or ndarray
        Of the logits' dtype, float32 for those of 16 bits; with ``reduction="none"`` shaped as
        logits.

    Raises
    ------
    TypeError
        If an argument is of a wrong kind.
    ValueError
        If a shape or an option does not fit.

    Notes
    -----
    An element's loss is within 1.25 ULP for hard targets, 1.75 for others and 2.5 with weights; the
    mean of many within 1.5 ULP. Both tails keep their precision: a logit of 20 with target 1 costs
    2.061154e-09. (Where log(1 + e^-|x|) is a subnormal number, a weight multiplies its rounding.)
    -inf with target 0 and +inf with target 1 cost 0, with any other target +inf, which a weight of
    0 makes 0; NaN costs NaN.

    Examples
    --------
    >>> fastbp.sigmoid_cross_entropy([20.0, -20.0, 0.0], [1, 1, 0], reduction="none")
    array([2.06115362e-09, 2.00000000e+01, 6.93147181e-01])
    """
    return loss_of(kernels, NAMES, logits, targets, reduction, empty, pos_weight, sample_weight)


def sigmoid_cross_entropy_with_grad(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    pos_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
    empty: str = "nan",
    out: Array | None = None,
) -> tuple[Any, Array]:
    """Cross-entropy of sigmoid(logits) and its gradient, in one pass.

    Parameters
    ----------
    logits, targets, pos_weight, sample_weight, reduction, empty
        As in `sigmoid_cross_entropy`.
    out : ndarray, optional
        Where to write the gradient, of the logits' shape and dtype; it may be logits.

    Returns
    -------
    loss : number or ndarray
        As `sigmoid_cross_entropy`.
    dlogits : ndarray
        Gradient of the loss, shaped as logits; with ``reduction="none"`` each element's own.

    Raises
    ------
    TypeError, ValueError
        As `sigmoid_cross_entropy`; also if out does not fit.

    Notes
    -----
    dlogits = ((1 - t) σ(x) - pos_weight t σ(-x)) · sample_weight, over the denominator of the
    mean. For hard targets it is within 1.75 ULP; for others within 2.5 ULP of the larger of the
    two terms, whose difference it is; with weights within 3.5. Gradients of 16 bits are rounded
    to those once more. They are 0 everywhere where the denominator is 0.

    Examples
    --------
    >>> loss, dlogits = fastbp.sigmoid_cross_entropy_with_grad([20.0, 0.0], [1, 0])
    >>> dlogits
    array([-1.03057681e-09,  2.50000000e-01])
    """
    return loss_and_gradient(
        kernels, NAMES, logits, targets, out, reduction, empty, pos_weight, sample_weight
    )


def sigmoid_cross_entropy_backward(
    dloss: ArrayLike,
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    pos_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    reduction: str = "mean",
    empty: str = "nan",
    out: Array | None = None,
) -> Any:
    """Gradient of sigmoid_cross_entropy, given the gradient by its loss.

    Parameters
    ----------
    dloss : array_like
        Gradient by the loss, shaped as the loss.
    logits, targets, pos_weight, sample_weight, reduction, empty
        As they were given to `sigmoid_cross_entropy`.
    out : ndarray, optional
        Where to write the gradient, of the logits' shape and dtype; it may be logits.

    Returns
    -------
    ndarray
        dlogits, shaped as logits.

    Raises
    ------
    TypeError, ValueError
        As `sigmoid_cross_entropy`; also if dloss or out does not fit.

    Notes
    -----
    As `sigmoid_cross_entropy_with_grad`, times dloss, and as accurate: within 1.75 ULP for hard
    targets, within 2.5 ULP of the larger term for others, and 3.5 with weights.

    Examples
    --------
    >>> fastbp.sigmoid_cross_entropy_backward(2.0, [0.0, 0.0], [1, 0])
    array([-0.5,  0.5])
    """
    return gradient_of(
        kernels, NAMES, dloss, logits, targets, out, reduction, empty, pos_weight, sample_weight
    )

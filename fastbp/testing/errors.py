"""How the error of a result is measured: in which unit, and beside which size.

`actual` is what fastbp returned, `exact` what the reference returned in a wider type. The measures
of operations take the exact arguments by name too, and return the largest error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]
Named = Mapping[str, Any]


def spacing(scale: ArrayLike, dtype: np.dtype[Any]) -> Array:
    """Distance of two neighbours of that dtype at `scale`, which may have more digits."""
    info = np.finfo(dtype)
    below_infinity = np.minimum(np.abs(scale), info.max)
    _, exponent = np.frexp(below_infinity)
    lowest_bit = np.maximum(exponent - 1, info.minexp) - info.nmant
    return np.asarray(np.ldexp(np.ones_like(below_infinity), lowest_bit))


def errors(actual: ArrayLike, exact: ArrayLike, unit: ArrayLike) -> Array:
    """|actual - exact| / unit; inf where only one is a number, or infinities differ."""
    actual, exact = np.asarray(actual), np.asarray(exact)
    if actual.shape != exact.shape:
        raise AssertionError(f"the result has shape {actual.shape}; expected {exact.shape}")
    with np.errstate(all="ignore"):
        rounded = exact.astype(actual.dtype)
        error = np.abs(actual - exact) / unit
    same = (actual == rounded) | (np.isnan(actual) & np.isnan(rounded))
    finite = np.isfinite(actual) & np.isfinite(rounded)
    return np.where(finite, error, np.where(same, 0.0, np.inf))


def ulps(actual: ArrayLike, exact: ArrayLike, scale: ArrayLike | None = None) -> Array:
    """Errors of `actual` in spacings of its dtype at `scale` (at `exact`, if there is none)."""
    return errors(actual, exact, spacing(exact if scale is None else scale, _dtype(actual)))


def eps_of_largest(actual: ArrayLike, exact: ArrayLike, terms: ArrayLike) -> Array:
    """Errors of `actual` in eps of the largest of each row's `terms`."""
    info = np.finfo(_dtype(actual))
    largest = np.max(np.abs(terms), axis=-1, keepdims=True, initial=0)
    return errors(actual, exact, np.maximum(largest * info.eps, info.smallest_subnormal))


def _dtype(actual: ArrayLike) -> np.dtype[Any]:
    return np.asarray(actual).dtype


def _worst(error: Array) -> float:
    return float(np.max(error, initial=0))


# the measures of operations -----------------------------------------------------------------------


def ulps_of_result(result: Any, exact: Any, _named: Named) -> float:
    """ULPs of every number."""
    return _worst(ulps(result, exact))


def ulps_of_product(result: Any, exact: Any, named: Named) -> float:
    """ULPs of dy·f, but where f is a subnormal number dy·ULP(f), as f itself is rounded there."""
    dy = np.abs(named["dy"])
    if dy.ndim < np.ndim(exact):  # one for each row
        dy = dy[..., None]
    rounding_of_f = dy * np.finfo(_dtype(result)).smallest_subnormal
    return _worst(errors(result, exact, np.maximum(spacing(exact, _dtype(result)), rounding_of_f)))


def ulps_of_larger_term(result: Any, exact: Any, named: Named) -> float:
    """ULPs of max(|m|, log Σ exp(x - m)): in logsumexp, the sum of both, all digits may cancel."""
    x = named["x"]
    m = np.max(x, axis=-1, initial=-np.inf)
    with np.errstate(all="ignore"):
        log_sum = np.log(np.sum(np.exp(x - m[..., None]), axis=-1))
    return _worst(ulps(result, exact, np.fmax(np.where(np.isfinite(m), np.abs(m), 0), log_sum)))


def eps_of_largest_entry(result: Any, exact: Any, _named: Named) -> float:
    """Eps of the largest number of each row."""
    return _worst(eps_of_largest(result, exact, exact))


def eps_of_largest_term(result: Any, exact: Any, named: Named) -> float:
    """Eps of the largest term of each row of dx = dy - exp(y) Σ dy, which may cancel everywhere.

    Where exp(y) > 1/2, the terms are those of (1 - exp(y)) dy - exp(y) Σ_others dy: a confident row
    with the dy of a cross-entropy loses no digits.
    """
    dy, y = named["dy"], named["y"]
    total = np.sum(dy, axis=-1, keepdims=True)
    likely = np.exp(y) > 0.5
    kept = np.where(likely, -np.expm1(y) * dy, dy)
    taken = np.exp(y) * np.where(likely, total - dy, total)
    return _worst(eps_of_largest(result, exact, np.maximum(np.abs(kept), np.abs(taken))))


def ulps_of_gradient(result: Any, exact: Any, named: Named) -> float:
    """ULPs of the larger term of p Σu - u, u being the weighted targets; all of it if u is one-hot.

    Otherwise p may happen to be just u / Σu, so that all digits cancel.
    """
    u = weighted_targets(named)
    several = np.count_nonzero(u, axis=-1, keepdims=True) > 1
    terms = np.where(several, np.maximum(exact + u, u), exact)
    return _worst(ulps(result, exact, terms))


def ulps_of_loss_and_gradient(result: Any, exact: Any, named: Named) -> float:
    """The larger of both errors."""
    return max(_worst(ulps(result[0], exact[0])), ulps_of_gradient(result[1], exact[1], named))


def weighted_targets(named: Named) -> Array:
    """u (n_rows, n_columns): how much each log-probability counts in the loss."""
    n_rows, n_columns = named["logits"].shape
    dtype = named["logits"].dtype
    class_weight = named.get("class_weight", np.ones(n_columns, dtype))
    share = named.get("sample_weight", np.ones(n_rows, dtype))[:, None]
    t = named["targets"]
    if t.dtype.kind == "i":
        share = np.where(t[:, None] == named.get("ignore_index"), 0, share)
        t = (t[:, None] == np.arange(n_columns)).astype(dtype)
    smoothing = named.get("label_smoothing", 0.0)
    u = share * class_weight * ((1 - smoothing) * t + smoothing / max(n_columns, 1))
    if named.get("reduction", "mean") == "mean":
        if named["targets"].dtype.kind == "i":
            share = share * np.sum(t * class_weight, axis=1, keepdims=True)
        denominator = np.sum(share)
        u = u / (denominator or np.inf)
    dloss = np.reshape(named.get("dloss", 1.0), (-1, 1))
    return np.asarray(np.abs(u * dloss))


def eps_of_products(result: Any, exact: Any, named: Named) -> float:
    """Eps of (number of terms) · Σ|terms| of linear: in any order a sum is within half of that.

    More cannot be said, for the products are the BLAS library's.
    """
    x, weight, bias = (np.abs(named[name]) for name in ("x", "weight", "bias"))
    return _eps_of_sums(result, exact, x @ weight + bias, x.shape[1] + 1)


def eps_of_products_backward(result: Any, exact: Any, named: Named) -> float:
    """The same of dx, dweight and dbias."""
    dy, x, weight = (np.abs(named[name]) for name in ("dy", "x", "weight"))
    n_terms = dy.shape[1], len(dy), len(dy)
    sums = dy @ weight.T, x.T @ dy, np.sum(dy, axis=0)
    return max(map(_eps_of_sums, result, exact, sums, n_terms))


def _eps_of_sums(actual: Array, exact: Array, sums: Array, n_terms: int) -> float:
    info = np.finfo(actual.dtype)
    unit = np.maximum(sums * (n_terms * info.eps), info.smallest_subnormal)
    return _worst(errors(actual, exact, unit))

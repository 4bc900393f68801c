"""How the error of a result is measured: in which unit, and beside which size.

`actual` is what fastbp returned, `exact` what the reference returned in a wider type. The measures
of operations take the exact arguments by name too, and return the largest error.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]
Named = Mapping[str, Any]

# What NumPy does not say of bfloat16.
_BFLOAT16 = SimpleNamespace(
    nmant=7, minexp=-126, eps=2.0**-7, max=(2 - 2.0**-7) * 2.0**127, smallest_subnormal=2.0**-133
)


def finfo(dtype: np.dtype[Any]) -> Any:
    """np.finfo, which knows bfloat16 too."""
    return _BFLOAT16 if dtype.name == "bfloat16" else np.finfo(dtype)


def spacing(scale: ArrayLike, dtype: np.dtype[Any]) -> Array:
    """Distance of two neighbours of that dtype at `scale`, which may have more digits."""
    info = finfo(dtype)
    below_infinity = np.minimum(np.abs(scale), info.max)
    _, exponent = np.frexp(below_infinity)
    exponent = np.where(below_infinity == 0, info.minexp, exponent)
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
    info = finfo(_dtype(actual))
    largest = np.max(np.abs(terms), axis=-1, keepdims=True, initial=0)
    return errors(actual, exact, np.maximum(largest * info.eps, info.smallest_subnormal))


def or_result(scale: Array, exact: ArrayLike, dtype: np.dtype[Any]) -> Array:
    """`scale`, which the sum of two terms may exceed; its own size where it is kept in 16 bits.

    For the error is the rounding there, half an ULP of the result, and nothing else to speak of.
    """
    return np.fmax(scale, np.abs(exact)) if dtype.itemsize == 2 else scale


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
    rounding_of_f = dy * finfo(_dtype(result)).smallest_subnormal
    return _worst(errors(result, exact, np.maximum(spacing(exact, _dtype(result)), rounding_of_f)))


def ulps_of_larger_term(result: Any, exact: Any, named: Named) -> float:
    """ULPs of max(|m|, log Σ exp(x - m)): in logsumexp, the sum of both, all digits may cancel."""
    x = named["x"]
    m = np.max(x, axis=-1, initial=-np.inf)
    with np.errstate(all="ignore"):
        log_sum = np.log(np.sum(np.exp(x - m[..., None]), axis=-1))
    larger = np.fmax(np.where(np.isfinite(m), np.abs(m), 0), log_sum)
    return _worst(ulps(result, exact, or_result(larger, exact, _dtype(result))))


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
    larger = np.maximum(np.abs(kept), np.abs(taken))
    return _worst(eps_of_largest(result, exact, or_result(larger, exact, _dtype(result))))


def ulps_of_loss(result: Any, exact: Any, named: Named) -> float:
    """ULPs of a loss, or of what rounded logits make of it.

    Where a temperature or a soft cap has rounded a logit that is c below the row's largest one, its
    exponential has an error of c ULPs, and the logarithm of their sum one of Σpc.
    """
    u, share = weighted_targets(named)
    _, lse, _, of_lse = _softmax(named)
    of_loss = np.sum(u, axis=1, keepdims=True) + 2 * named.get("z_loss", 0.0) * share * np.abs(lse)
    off = np.nan_to_num(of_loss * of_lse)[:, 0]
    off = off if named.get("reduction") == "none" else np.sum(off)
    return _worst(ulps(result, exact, np.fmax(np.abs(exact), off)))


def ulps_of_gradient(result: Any, exact: Any, named: Named) -> float:
    """ULPs of the larger term of p Σu - u, u being the weighted targets; all of it if u is one-hot.

    Otherwise p may happen to be just u / Σu, so that all digits cancel. A z-loss adds a term. Where
    logits have been rounded, p has an error of c or Σpc ULPs, see `ulps_of_loss`.
    """
    u, share = weighted_targets(named)
    p, lse, c, of_lse = _softmax(named)
    _, slope = transformed_logits(named)
    by_z_loss = share * slope * 2 * named.get("z_loss", 0.0) * lse * p
    u_sum = np.sum(u, axis=1, keepdims=True)
    u = u * slope
    several = np.count_nonzero(u, axis=-1, keepdims=True) > 1
    of_loss = exact - by_z_loss
    terms = np.where(several, np.maximum(of_loss + u, u), np.abs(of_loss))
    terms = np.fmax(np.fmax(terms, np.abs(by_z_loss)), np.abs(exact))
    unit = spacing(or_result(terms, exact, _dtype(result)), _dtype(result))
    of_p = or_result(p * u_sum * slope + np.abs(by_z_loss), exact, _dtype(result))
    unit = np.fmax(unit, np.fmax(c, of_lse) * spacing(of_p, _dtype(result)))
    return _worst(errors(result, exact, unit))


def ulps_of_loss_and_gradient(result: Any, exact: Any, named: Named) -> float:
    """The larger of both errors."""
    of_loss = ulps_of_loss(result[0], exact[0], named)
    return max(of_loss, ulps_of_gradient(result[1], exact[1], named))


def ulps_of_grad_hess(result: Any, exact: Any, named: Named) -> float:
    """ULPs of gradient and Hessian by margins (n_rows, n_columns); see `_ulps_weighted`."""
    weight = np.reshape(named.get("sample_weight", 1.0), (-1, 1))
    return max(_ulps_weighted(r, e, e, weight) for r, e in zip(result, exact, strict=True))


def ulps_of_sigmoid_grad_hess(result: Any, exact: Any, named: Named) -> float:
    """The same by numbers; the gradient's ULPs are those of the larger term of its difference."""
    x, y, weight = named["margins"], named["labels"], named.get("sample_weight", 1.0)
    with np.errstate(all="ignore"):
        z = np.exp(-np.abs(x))
        p, rest = np.where(x < 0, z, 1) / (1 + z), np.where(x < 0, 1, z) / (1 + z)
        terms = np.maximum((1 - y) * p, y * rest) * weight
    of_hess = _ulps_weighted(result[1], exact[1], exact[1], weight)
    return max(_ulps_weighted(result[0], exact[0], terms, weight), of_hess)


def _ulps_weighted(actual: Array, exact: Array, scale: Array, weight: Any) -> float:
    """ULPs at `scale`, but weight·ULP(p) where a probability p is a subnormal number."""
    rounding_of_p = np.abs(weight) * finfo(actual.dtype).smallest_subnormal
    return _worst(errors(actual, exact, np.maximum(spacing(scale, actual.dtype), rounding_of_p)))


def transformed_logits(named: Named) -> tuple[Array, Array]:
    """Logits after soft cap and temperature, and their derivatives by the logits given."""
    x, cap, temperature = named["logits"], named.get("softcap"), named.get("temperature", 1.0)
    slope = np.ones_like(x) / temperature
    if cap is not None:
        with np.errstate(all="ignore"):
            z = np.exp(-2 * np.abs(x / cap))
            slope = 4 * z / (1 + z) ** 2 * slope
        x = cap * np.tanh(x / cap)
    return x / temperature, slope


def _softmax(named: Named) -> tuple[Array, Array, Array, Array]:
    """Of the transformed logits: p, log Σ exp, c and Σpc, the last two 0 if nothing is rounded."""
    z, _ = transformed_logits(named)
    m = np.max(z, axis=1, keepdims=True, initial=-np.inf)
    with np.errstate(all="ignore"):
        e = np.exp(z - m)
        total = np.sum(e, axis=1, keepdims=True)
        p, lse = e / total, m + np.log(total)
        rounded = named.get("softcap") is not None or named.get("temperature", 1.0) != 1.0
        c = np.where(np.isfinite(z - m) & rounded, m - z, 0)
    return p, lse, c, np.sum(p * c, axis=1, keepdims=True)


def weighted_targets(named: Named) -> tuple[Array, Array]:
    """How much each log-probability counts in the loss, and the row (n_rows, 1) as a whole."""
    n_rows, n_columns = named["logits"].shape
    dtype = named["logits"].dtype
    class_weight = named.get("class_weight", np.ones(n_columns, dtype))
    share = named.get("sample_weight", np.ones(n_rows, dtype))[:, None]
    t, classes = named["targets"], np.arange(n_columns)
    smoothing = named.get("label_smoothing", 0.0)
    if isinstance(t, tuple):
        indices, weights = t
        t = np.sum((indices[:, :, None] == classes) * weights[:, :, None], axis=1)
    if t.dtype.kind == "i":
        share = np.where(t[:, None] == named.get("ignore_index"), 0, share)
        t = (t[:, None] == classes).astype(dtype)
        u = share * class_weight * ((1 - smoothing) * t + smoothing / max(n_columns, 1))
        share = share * np.sum(t * class_weight, axis=1, keepdims=True)
    else:
        u = share * class_weight * ((1 - smoothing) * t + smoothing / max(n_columns, 1))
    factor = np.reshape(named.get("dloss", 1.0), (-1, 1))
    if named.get("reduction", "mean") == "mean":
        factor = factor / (np.sum(share) or np.inf)
    return np.asarray(np.abs(u * factor)), np.asarray(np.abs(share * factor))


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


def eps_of_linear_loss(result: Any, exact: Any, named: Named) -> float:
    """Eps of the loss of a linear layer: of what errors of its logits make of it, and 2 ULP.

    A logit is off by half an eps of (number of terms) · Σ|terms| at most, as in `eps_of_products`.
    """
    of_rows, _ = _linear_loss_units(named)
    unit = of_rows if named.get("reduction") == "none" else np.sum(of_rows)
    return _in_eps(result, exact, unit)


def eps_of_linear_loss_and_gradients(result: Any, exact: Any, named: Named) -> float:
    """The same of the loss, dx, dweight and dbias."""
    (loss, *gradients), (exact_loss, *exact_gradients) = flat(result), flat(exact)
    _, units = _linear_loss_units(named)
    of_gradients = map(_in_eps, gradients, exact_gradients, units)
    return max(eps_of_linear_loss(loss, exact_loss, named), *of_gradients)


def _linear_loss_units(named: Named) -> tuple[Array, tuple[Array, Array, Array]]:
    """How many eps each row's loss may be off; and dx, dweight and dbias."""
    transposed = named.get("weight_layout") == "out_in"
    x, weight = named["x"], named["weight"].T if transposed else named["weight"]
    if "ignore_index" in named:
        x = np.where((named["targets"] == named["ignore_index"])[:, None], 0, x)
    z = x @ weight + named["bias"]
    u, _ = weighted_targets({**named, "logits": z})
    x, weight = np.abs(x), np.abs(weight)
    of_z = (x.shape[1] + 1) * (x @ weight + np.abs(named["bias"]))

    off = np.max(of_z, axis=1, keepdims=True)
    largest_loss = 2 * np.max(np.abs(z), axis=1, keepdims=True) + np.log(z.shape[1])
    of_loss = np.sum(u * (off + 2 * largest_loss), axis=1)

    e = np.exp(z - np.max(z, axis=1, keepdims=True))
    terms = e / np.sum(e, axis=1, keepdims=True) * np.sum(u, axis=1, keepdims=True) + u
    n_rows, n_classes = z.shape
    of_terms = terms * (off + 4)
    dx = (of_terms + n_classes * terms) @ weight.T
    dweight = x.T @ (of_terms + n_rows * terms)
    dbias = np.sum(of_terms + n_rows * terms, axis=0)
    return of_loss, (dx, dweight.T if transposed else dweight, dbias)


def flat(result: Any) -> tuple[Any, ...]:
    """(loss, (dx, dweight, dbias)) as (loss, dx, dweight, dbias); of a single array, (array,)."""
    if not isinstance(result, tuple):
        return (result,)
    return tuple(part for r in result for part in flat(r))


def _eps_of_sums(actual: Array, exact: Array, sums: Array, n_terms: int) -> float:
    return _in_eps(actual, exact, sums * n_terms)


def _in_eps(actual: Array, exact: Array, scale: Array) -> float:
    info = finfo(_dtype(actual))
    return _worst(errors(actual, exact, np.maximum(scale * info.eps, info.smallest_subnormal)))

"""Numbers of the host as kernels take them: pairs of the type that is computed with."""

from fractions import Fraction
from typing import Any

import numpy as np

from .run import Reals


def as_pair(a: float, b: float, dtype: str, c: float = 0.0) -> Reals:
    """a / b + c as two numbers of that type."""
    kind = np.dtype(dtype).type
    if not np.isfinite(a):
        return Reals((a, 0.0), dtype)
    exact = Fraction(a) / Fraction(b) + Fraction(c)
    try:
        with np.errstate(over="ignore"):
            hi = kind(float(exact))
    except OverflowError:
        hi = kind(np.copysign(np.inf, a))
    if not np.isfinite(hi):
        return Reals((float(hi), 0.0), dtype)
    with np.errstate(under="ignore"):
        lo = kind(float(exact - Fraction(float(hi))))
    return Reals((float(hi), float(lo)), dtype)


def transform(o: Any, dtype: str) -> tuple[Reals | None, ...]:
    """Soft cap, temperature and z-loss as pairs; None are those that change nothing.

    A soft cap takes the temperature with it.
    """
    changes = o.softcap is not None or o.temperature != 1.0
    return (
        None if o.softcap is None else as_pair(o.softcap, 1.0, dtype),
        as_pair(o.temperature, 1.0, dtype) if changes else None,
        as_pair(o.z_loss, 1.0, dtype) if o.z_loss else None,
    )

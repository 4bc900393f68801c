"""The traversals of a row together with its targets: a weight u for every class.

`smoothing` holds four numbers: 1 - ε and ε / n_classes, each as a float64 pair.
"""

from ..formulas.cross_entropy import (
    accumulate_target_loss,
    smoothed,
    target_gradient,
    times_weight,
)
from ..formulas.softmax import (
    add_pairs,
)
from .vectors import (
    Pointer,
    Vector,
    first_lanes,
    lanes,
    load,
    load_classes,
    load_some,
    splat64,
    store,
    store_some,
    sum_across,
)


def class_targets(
    x: Pointer, targets: Pointer, weights: Pointer, j: int, k: int, smoothing: Pointer
) -> tuple[Vector, Vector]:
    """u = w·(keep·t + share) of k classes from j on, as float64 pairs.

    t is 0 where targets is None, and w is 1 where weights is.
    """
    u, u_lo = splat64(x, smoothing[2]), splat64(x, smoothing[3])
    if targets is not None:
        t = load_some(targets, j, k, 0)
        u, u_lo = smoothed(t, smoothing[0], smoothing[1], smoothing[2], smoothing[3])
    if weights is not None:
        u, u_lo = times_weight(u, u_lo, load_classes(x, weights, j, k))
    return u, u_lo


def target_sums(
    x: Pointer, targets: Pointer, weights: Pointer, n: int, m: float, smoothing: Pointer
) -> tuple[float, float, float, float]:
    """Σu and Σ u·(m - x), each as a float64 pair."""
    width = lanes(x)
    u = u_lo = d = d_lo = v = v_lo = f = f_lo = splat64(x, 0)
    j = 0
    while j + 2 * width <= n:
        u, u_lo, d, d_lo = _add_targets(
            x, targets, weights, j, width, m, smoothing, u, u_lo, d, d_lo
        )
        v, v_lo, f, f_lo = _add_targets(
            x, targets, weights, j + width, width, m, smoothing, v, v_lo, f, f_lo
        )
        j += 2 * width
    while j < n:
        k = min(width, n - j)
        u, u_lo, d, d_lo = _add_targets(x, targets, weights, j, k, m, smoothing, u, u_lo, d, d_lo)
        j += width
    u, u_lo = add_pairs(u, u_lo, v, v_lo, m)
    d, d_lo = add_pairs(d, d_lo, f, f_lo, m)
    return *sum_across(x, u, u_lo, m), *sum_across(x, d, d_lo, m)


def _add_targets(
    x: Pointer, targets: Pointer, weights: Pointer, j: int, k: int, m: float, smoothing: Pointer,
    u_sum: Vector, u_sum_lo: Vector, d_sum: Vector, d_sum_lo: Vector,
) -> tuple[Vector, Vector, Vector, Vector]:  # fmt: skip
    """The sums of `target_sums` and what k classes from j on add."""
    u, u_lo = class_targets(x, targets, weights, j, k, smoothing)
    u, u_lo = first_lanes(x, u, k), first_lanes(x, u_lo, k)
    u_sum, u_sum_lo = add_pairs(u_sum, u_sum_lo, u, u_lo, m)
    d_sum, d_sum_lo = accumulate_target_loss(d_sum, d_sum_lo, u, u_lo, m, load_some(x, j, k, 0))
    return u_sum, u_sum_lo, d_sum, d_sum_lo


def target_to_gradient(
    e: Pointer,
    dx: Pointer,
    targets: Pointer,
    weights: Pointer,
    n: int,
    smoothing: Pointer,
    factors: tuple[float, ...],
) -> None:
    """A row's gradient from its biased exponentials; see `target_gradient`."""
    width = lanes(e)
    j = 0
    while j + width <= n:
        u, u_lo = class_targets(e, targets, weights, j, width, smoothing)
        store(dx, j, target_gradient(load(e, j), u, u_lo, *factors))
        j += width
    if j < n:
        u, u_lo = class_targets(e, targets, weights, j, n - j, smoothing)
        store_some(dx, j, n - j, target_gradient(load_some(e, j, n - j, 0), u, u_lo, *factors))

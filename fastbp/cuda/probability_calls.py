"""cross_entropy, on probabilities, on a GPU: arguments checked, and what is launched for them."""

import math
from typing import Any, NamedTuple

from ..checks import as_axis
from . import run
from .arrays import INTEGERS, View
from .calls import put_back, result_rows
from .layouts import as_out, as_values, finish, new, new_like, place_of, views_of
from .losses import Given, as_numbers, check_targets, check_upstream, with_upstream
from .pairs import as_pair
from .probability_losses import label_gradients, label_logs, target_gradients, target_logs
from .run import Numbers

# Of threads that each take a row.
THREADS = 256


class Options(NamedTuple):
    """What `Given` asks for."""

    on_bad_label: str = "raise"
    empty: str = "nan"


class Problem(NamedTuple):
    """Checked arguments, named as those of `losses.Problem`."""

    logits: View  # the probabilities
    targets: View
    given: None
    class_weight: None
    sample_weight: None
    views: dict[str, View]
    dtype: str
    axis: int
    rows_shape: tuple[int, ...]
    reduction: str
    options: Options = Options()
    ignore: int = 0
    has_ignore: bool = False
    per_row: int = 1

    @property
    def has_indices(self) -> bool:
        """Whether the targets are labels."""
        return self.targets.dtype in INTEGERS

    @property
    def of_sums(self) -> str:
        """The type of what is computed, and of losses."""
        return run.computed(self.dtype)

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return math.prod(self.rows_shape)

    @property
    def n_classes(self) -> int:
        """How many columns they have."""
        return self.logits.shape[self.axis]


def checked(arrays: dict[str, Any], axis: Any, reduction: str) -> Problem:
    """Check all arguments."""
    if isinstance(arrays["targets"], tuple):
        raise TypeError("targets are a pair; expected integer labels or float probabilities")
    views = views_of(arrays)
    probs, targets = views["probs"], views["targets"]
    dtype = as_values(probs, "probs")
    axis = as_axis(axis, probs.ndim, "probs")
    rows_shape = probs.shape[:axis] + probs.shape[axis + 1 :]
    if not probs.shape[axis] and 0 not in rows_shape:
        raise ValueError(f"probs has shape {probs.shape}; expected at least one class")
    check_targets(targets, None, probs, rows_shape)
    return Problem(probs, targets, None, None, None, views, dtype, axis, rows_shape, reduction)


def cross_entropy(arrays: dict[str, Any], axis: Any, reduction: str) -> Any:
    """The loss."""
    p = checked(arrays, axis, reduction)
    place = place_of(list(p.views.values()))
    given = Given(p, place)
    if p.has_indices:
        given.count()
    rows = p.rows_shape if reduction == "none" else (p.n_rows,)
    losses = new(rows, p.of_sums, p.logits) if reduction == "none" else given.room(rows)
    x = given.x
    if p.has_indices and x.rows:
        blocks = -(-x.rows // THREADS)
        given.execute(
            label_logs, min(blocks, 2**16), x.rows, Numbers(x.address, p.dtype), x.stride,
            x.columns, given.targets, as_numbers(losses),
        )  # fmt: skip
    elif x.rows:
        run.launch_rows(target_logs, 2, p.dtype, place, x, given.targets, as_numbers(losses))
    result = losses
    if reduction != "none":
        result = new((), p.of_sums, p.logits)
        known = float(p.n_rows) if reduction == "mean" else 1.0
        given.reduce(losses, None, known, result)
    finish(p.logits, result, place)
    return result.owner


def cross_entropy_backward(
    dloss: Any, arrays: dict[str, Any], axis: Any, reduction: str, out: Any
) -> Any:
    """The gradient, given that by the loss."""
    arrays, number = with_upstream(dloss, arrays)
    p = checked(arrays, axis, reduction)
    check_upstream(dloss, p.views, p.rows_shape if reduction == "none" else ())
    dloss_view = p.views.get("dloss")
    if out is None:
        gradient = new_like(p.logits, p.dtype)
    else:
        gradient = as_out(out, p.logits.shape, p.dtype, p.views, 1)
    place = place_of([*p.views.values(), gradient])
    given = Given(p, place)
    if p.has_indices:
        given.count()
    dp, written = result_rows(gradient, (p.axis,), place)
    known = as_pair(float(p.n_rows) if reduction == "mean" else 1.0, 1.0, p.of_sums)
    upstream = None if dloss_view is None else given.numbers(dloss_view)
    factor = as_pair(number, 1.0, p.of_sums)
    arguments = (
        given.x, given.targets, upstream, int(reduction == "none"), factor, known, dp
    )  # fmt: skip
    if given.x.rows:
        kernel, slots = (label_gradients, 1) if p.has_indices else (target_gradients, 2)
        run.launch_rows(kernel, slots, p.dtype, place, *arguments)
    put_back(written, gradient, (p.axis,), place)
    finish(p.logits, gradient, place)
    return gradient.owner

"""The table's rows of the losses of elements and of probabilities: their inputs and measures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .errors import Array, Named, errors, finfo, spacing, ulps_of_result
from .inputs import Arguments, DType, Inputs, Rng, Shape, labels, values

# inputs -------------------------------------------------------------------------------------------


def targets_of_elements(rng: Rng, shape: Shape, dtype: DType, *, hard: bool) -> Array:
    """0 and 1; among soft targets, numbers close to both, too."""
    t = rng.random(shape)
    if hard:
        return np.round(t).astype(dtype)
    close = np.exp(rng.uniform(-30, 0, shape))
    kind = rng.integers(4, size=shape)
    t = np.select([kind == 0, kind == 1, kind == 2], [np.round(t), close, 1 - close], t)
    return t.astype(dtype)


def probabilities_of_elements(rng: Rng, shape: Shape, dtype: DType) -> Array:
    """Numbers between 0 and 1 of all sizes, close to both among them; neither 0 nor 1."""
    lowest = {"float16": -10, "float64": -700}.get(dtype.name, -80)
    kind = rng.integers(4, size=shape)
    close = np.exp(rng.uniform(lowest / 6, 0, shape))
    p = np.where(kind == 0, np.exp(rng.uniform(lowest, 0, shape)), rng.random(shape))
    p = np.where(kind == 1, 1 - close, p).astype(dtype)
    smallest = dtype.type(finfo(dtype).smallest_subnormal)
    largest = np.nextafter(dtype.type(1), dtype.type(0))
    return np.asarray(np.minimum(np.maximum(p, smallest), largest))


def of_element_loss(
    names: tuple[str, str],
    make: Callable[[Rng, Shape, DType], Array],
    variant: str,
    *,
    dloss: bool,
) -> Inputs:
    """([dloss,] x, targets) and options, which the words of `variant` name."""
    words = variant.split(",")

    def inputs(rng: Rng, shape: Shape, dtype: DType) -> Arguments:
        x = make(rng, shape, dtype)
        if names[1] == "target":
            near = x * (1 + 1e-4 * rng.standard_normal(shape))
            t = np.where(rng.random(shape) < 0.5, near, make(rng, shape, dtype)).astype(dtype)
        else:
            t = targets_of_elements(rng, shape, dtype, hard="hard" in words)
        options: dict[str, Any] = {}
        if "elements" in words:
            options["reduction"] = "none"
        if "sum" in words:
            options["reduction"] = "sum"
        if "half" in words:
            options["half"] = True
        if "weights" in words:  # of columns and of rows
            options["pos_weight"] = rng.uniform(0.2, 5, shape[1]).astype(dtype)
            options["sample_weight"] = rng.uniform(0.2, 3, (shape[0], 1)).astype(dtype)
        given = rng.uniform(0.5, 2, shape).astype(dtype)
        if "elements" not in words:
            given = dtype.type(0.75)
        return Arguments((given, x, t) if dloss else (x, t), options)

    return inputs


def of_probabilities(variant: str, *, dloss: bool) -> Inputs:
    """([dloss,] probs, targets) and a reduction, which the words of `variant` name."""
    words = variant.split(",")

    def inputs(rng: Rng, shape: Shape, dtype: DType) -> Arguments:
        p = probabilities_of_elements(rng, shape, dtype)
        t: Array = labels(rng, p)
        if "probabilities" in words:
            t = targets_of_elements(rng, shape, dtype, hard=False)
            p[(t == 0) & (rng.random(shape) < 0.2)] = 0  # 0·log 0 is 0
        options = {"reduction": "none"} if "rows" in words else {}
        given = rng.uniform(0.5, 2, shape[0]).astype(dtype) if "rows" in words else dtype.type(0.75)
        return Arguments((given, p, t) if dloss else (p, t), options)

    return inputs


# measures -----------------------------------------------------------------------------------------


def ulps_of_sigmoid_loss(result: Any, exact: Any, named: Named) -> float:
    """ULPs; but where log(1 + e^-|x|) is a subnormal number, its own ULP times the weights."""
    unit = spacing(exact, np.asarray(result).dtype)
    if named.get("reduction") == "none":
        _, _, weight = _terms(named)
        unit = np.maximum(unit, weight * finfo(np.asarray(result).dtype).smallest_subnormal)
    return float(np.max(errors(result, exact, unit), initial=0))


def ulps_of_sigmoid_gradient(result: Any, exact: Any, named: Named) -> float:
    """ULPs of the larger term of (1 - t)·σ(x) - pos_weight·t·σ(-x), weighted; see above."""
    a, b, weight = _terms(named)
    factor = np.abs(named.get("dloss", 1.0))
    if named.get("reduction", "mean") == "mean":
        share = np.broadcast_to(named.get("sample_weight", 1.0), np.shape(exact))
        factor = factor / (np.sum(share, dtype=a.dtype) or np.inf)
    dtype = np.asarray(result).dtype
    unit = spacing(np.maximum(a, b) * factor, dtype)
    smallest = weight * factor * finfo(dtype).smallest_subnormal
    return float(np.max(errors(result, exact, np.maximum(unit, smallest)), initial=0))


def ulps_of_sigmoid_loss_and_gradient(result: Any, exact: Any, named: Named) -> float:
    """The larger of both errors."""
    return max(
        ulps_of_sigmoid_loss(result[0], exact[0], named),
        ulps_of_sigmoid_gradient(result[1], exact[1], named),
    )


def ulps_of_both(result: Any, exact: Any, named: Named) -> float:
    """ULPs of every number of a loss and of its gradient."""
    return max(ulps_of_result(r, e, named) for r, e in zip(result, exact, strict=True))


def _terms(named: Named) -> tuple[Array, Array, Array]:
    """The gradient's two terms before their difference, and what weighs an element at most."""
    x, t = named["logits"], named["targets"]
    positive, weight = named.get("pos_weight", 1.0), named.get("sample_weight", 1.0)
    z = np.exp(-np.abs(x))
    a = np.where(x < 0, z, 1) / (1 + z) * (1 - t) * weight
    b = np.where(x < 0, 1, z) / (1 + z) * (positive * t) * weight
    return a, b, np.asarray(weight * np.maximum(positive, 1))


# rows of the table --------------------------------------------------------------------------------

ULP, ULP_OF_TERM = "ULP", "ULP of the larger term"

Row = tuple[str, Inputs, Callable[[Any, Any, Named], float], float, str, Callable[..., int]]


def _matrices(n: int) -> Callable[[int, int, int], int]:
    """Bytes of n arrays (n_rows, n_columns)."""
    return lambda n_rows, n_columns, itemsize: n * n_rows * n_columns * itemsize


def _rows() -> Iterator[Row]:
    """(name, inputs, measure, promise, unit, bytes moved) of every operation."""
    for variant in ("hard", "soft,elements", "soft,weights", "hard,weights,elements"):
        names = "logits", "targets"
        given, given_dloss = (
            of_element_loss(names, values, variant, dloss=dloss) for dloss in (False, True)
        )
        weighted, soft = "weights" in variant, "soft" in variant
        of_loss = 2.5 if weighted else 1.75 if soft else 1.25
        of_gradient = 3.5 if weighted else 2.5 if soft else 1.75
        name, unit = "sigmoid_cross_entropy", ULP_OF_TERM if soft else ULP
        yield f"{name}[{variant}]", given, ulps_of_sigmoid_loss, of_loss, ULP, _matrices(2)
        yield (f"{name}_with_grad[{variant}]", given, ulps_of_sigmoid_loss_and_gradient,
               max(of_loss, of_gradient), unit, _matrices(3))  # fmt: skip
        yield (f"{name}_backward[{variant}]", given_dloss, ulps_of_sigmoid_gradient, of_gradient,
               unit, _matrices(3))  # fmt: skip

    for variant, of_loss in (("whole", 1.5), ("half,elements", 1)):
        names = "pred", "target"
        given, given_dloss = (
            of_element_loss(names, values, variant, dloss=dloss) for dloss in (False, True)
        )
        name = "squared_error"
        yield f"{name}[{variant}]", given, ulps_of_result, of_loss, ULP, _matrices(2)
        yield f"{name}_with_grad[{variant}]", given, ulps_of_both, of_loss, ULP, _matrices(3)
        yield f"{name}_backward[{variant}]", given_dloss, ulps_of_result, 1, ULP, _matrices(3)

    for variant, of_loss, of_gradient in (("hard", 1.25, 1.75), ("soft,elements", 1.75, 3)):
        names, make = ("probs", "targets"), probabilities_of_elements
        given, given_dloss = (
            of_element_loss(names, make, variant, dloss=dloss) for dloss in (False, True)
        )
        name = "binary_cross_entropy"
        yield f"{name}[{variant}]", given, ulps_of_result, of_loss, ULP, _matrices(2)
        yield (f"{name}_backward[{variant}]", given_dloss, ulps_of_result, of_gradient, ULP,
               _matrices(3))  # fmt: skip

    for variant in ("labels", "labels,rows", "probabilities", "probabilities,rows"):
        given, given_dloss = (of_probabilities(variant, dloss=dloss) for dloss in (False, True))
        with_labels = "labels" in variant
        name, of_loss = "cross_entropy", 1.25 if with_labels else 1.75
        yield (f"{name}[{variant}]", given, ulps_of_result, of_loss, ULP,
               _one_of_a_row if with_labels else _matrices(2))  # fmt: skip
        yield (f"{name}_backward[{variant}]", given_dloss, ulps_of_result, 1.5, ULP,
               _matrices(2 if with_labels else 3))  # fmt: skip


def _one_of_a_row(n_rows: int, _n_columns: int, itemsize: int) -> int:
    """Bytes of a number of each row, and of its label."""
    return n_rows * (itemsize + 8)


ROWS = tuple(_rows())

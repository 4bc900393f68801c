"""Checks of arguments, and what they say when one is wrong."""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
# Kept in 16 bits, computed in float32. (bfloat16 is of ml_dtypes, which need not be installed.)
HALVES = ("float16", "bfloat16")


def computed_in(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """In which type numbers of this one are computed, and in which their losses come back."""
    return dtype if dtype in FLOATS else FLOATS[0]


def as_values(x: Any, name: str) -> Array:
    """x as an array of floats; integers, bools, lists and numbers become float64."""
    if type(x) is not np.ndarray:
        x = as_array(x, name)
    if x.dtype in FLOATS:  # false for swapped bytes
        return x  # type: ignore[no-any-return]
    if x.dtype.kind in "biu":
        return x.astype(np.float64)  # type: ignore[no-any-return]
    if is_float(x.dtype):
        return native(x)
    raise TypeError(
        f"{name} has dtype {x.dtype}; expected float32, float64, float16, bfloat16, integers "
        "or bools"
    )


def native(x: Array) -> Array:
    """x with its bytes in this machine's order, which kernels take for granted."""
    dtype = x.dtype if x.dtype.isnative else x.dtype.newbyteorder("=")
    return x.astype(dtype, copy=False)


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether it is one of the four types of floats."""
    return (dtype.kind == "f" and dtype.itemsize in (2, 4, 8)) or dtype.name == "bfloat16"


def as_mask(where: Any, x: Array) -> Array:
    """`where`, broadcast to x."""
    mask = as_array(where, "where")
    if mask.dtype != np.bool_:
        raise TypeError(f"where has dtype {mask.dtype}; expected bool")
    return broadcast(mask, "where", x.shape, "x")


def as_array(x: Any, name: str) -> Array:
    """x as a NumPy array of any dtype; arrays of other libraries are not taken for NumPy's."""
    if not isinstance(x, np.ndarray):
        if _is_on_gpu(x):
            raise TypeError(
                f"{name} lives on a GPU; expected a NumPy array, as the arguments before it are, "
                "or as this function takes them"
            )
        if hasattr(x, "__dlpack__"):
            kind = f"{type(x).__module__}.{type(x).__qualname__}"
            raise TypeError(f"{name} is a {kind}; expected a NumPy array (numpy.asarray gives one)")
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, whose mask would be lost; pass its data")
    try:
        return np.asarray(x)
    except ValueError as error:  # a ragged list
        raise ValueError(f"{name} is no array: {error}") from None


def _is_on_gpu(x: Any) -> bool:
    try:
        return hasattr(x, "__cuda_array_interface__")
    except RuntimeError:  # of PyTorch, where gradients are required
        return True


def like_first(x: Any, name: str, first: Array) -> Array:
    """x as an array of first's dtype, which decides where float arguments differ."""
    return of_dtype(as_values(x, name), first.dtype)


def of_dtype(x: Array, dtype: np.dtype[Any]) -> Array:
    """x converted, if that is needed; numbers too large become inf without a warning."""
    if x.dtype == dtype:
        return x
    with np.errstate(over="ignore", invalid="ignore"):
        return x.astype(dtype)


def same_shape(x: Array, name: str, shape: tuple[int, ...], of: str) -> None:
    """x must be shaped as another argument."""
    if x.shape != shape:
        raise ValueError(f"{name} has shape {x.shape}; expected {shape}, the shape of {of}")


def broadcast(x: Array, name: str, shape: tuple[int, ...], of: str) -> Array:
    """x as a view that is shaped as another argument."""
    try:
        return np.broadcast_to(x, shape)
    except ValueError:
        expected = f"expected one that broadcasts to {shape}, the shape of {of}"
        raise ValueError(f"{name} has shape {x.shape}; {expected}") from None


def as_axis(axis: Any, ndim: int, name: str) -> int:
    """An int axis, counted from the front."""
    try:
        index = operator.index(axis)
    except TypeError:
        raise TypeError(f"axis is {axis!r}; expected an int") from None
    if ndim == 0:
        raise ValueError(f"{name} is a single number, which has no axis {index}")
    if not -ndim <= index < ndim:
        raise ValueError(f"axis is {index}; expected {-ndim} to {ndim - 1}, as {name} is {ndim}-D")
    return index % ndim


def as_axes(axis: Any, ndim: int, name: str) -> tuple[int, ...]:
    """An int, tuple of ints or None (all of them), as axes counted from the front."""
    if axis == -1 and ndim:  # first, as it is nearly always this
        return (ndim - 1,)
    if axis is None:
        return tuple(range(ndim))
    if not isinstance(axis, Sequence) or isinstance(axis, str):
        return (as_axis(axis, ndim, name),)
    axes = {as_axis(a, ndim, name) for a in axis}
    if len(axes) < len(axis):
        raise ValueError(f"axis is {axis!r}; expected no axis twice")
    return tuple(sorted(axes))


def as_ignored(ignore_index: Any, dtype: np.dtype[Any]) -> tuple[int, bool]:
    """The label to ignore, as kernels compare it, and whether any label of that type can be it."""
    if ignore_index is None:
        return 0, False
    try:
        index = operator.index(ignore_index)
    except TypeError:
        raise TypeError(f"ignore_index is {ignore_index!r}; expected an int or None") from None
    info = np.iinfo(dtype)
    if not info.min <= index <= info.max:
        return 0, False
    return int(np.array(index, dtype).astype(np.int64)), True


def bad_label(indices: Array, bad: int, rows_shape: tuple[int, ...], n_classes: int) -> str:
    """What to say of a row with such an index among its own."""
    where = [int(i) for i in np.unravel_index(bad, rows_shape)] if rows_shape else []
    place = f" at row {where[0] if len(where) == 1 else tuple(where)}" if where else ""
    label = next(k for k in indices.tolist() if not 0 <= k < n_classes)
    return f"targets has label {label}{place}; expected 0 to {n_classes - 1}"


def no_class(label: Any, i: int, n_classes: int) -> Exception:
    """The error about the label of row i, an integer or a float, which is none of the classes."""
    if label != np.floor(label) or np.isinf(label):
        return ValueError(f"labels has {label} at row {i}; expected whole numbers")
    whole = str(label).removesuffix(".0")
    return IndexError(f"labels has label {whole} at row {i}; expected 0 to {n_classes - 1}")


def no_fraction(label: Any, bad: int, shape: tuple[int, ...]) -> Exception:
    """The error about the label that is at that place among all of them, and not 0 to 1."""
    where = [int(i) for i in np.unravel_index(bad, shape)] if shape else []
    place = f" at {where[0] if len(where) == 1 else tuple(where)}" if where else ""
    return ValueError(f"labels has {label}{place}; expected 0 to 1")


def one_of(value: Any, name: str, allowed: tuple[str, ...]) -> str:
    """A word out of a few."""
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(map(repr, allowed))}")
    return str(value)


def as_out(out: Any, shape: tuple[int, ...], inputs: dict[str, Array], replaceable: int) -> Array:
    """An array for a result of that shape and the first input's dtype.

    It may be one of the first `replaceable` inputs, and touches no input otherwise.
    """
    dtype = next(iter(inputs.values())).dtype
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out is a {type(out).__name__}; expected a NumPy array")
    if out.dtype != dtype:
        raise TypeError(f"out has dtype {out.dtype}; expected {dtype}, the result's")
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}; expected {shape}, the result's")
    if not out.flags.writeable:
        raise ValueError("out is read-only; expected an array that can be written to")
    if 0 in out.strides and any(
        s == 0 and n > 1 for s, n in zip(out.strides, out.shape, strict=True)
    ):
        raise ValueError("out holds one place several times; expected one place for each element")
    for i, (name, array) in enumerate(inputs.items()):
        if out is array and i < replaceable:
            continue
        if np.may_share_memory(out, array) and _overlap(out, array):
            if i < replaceable and _same_memory(out, array):
                continue
            may = "expected all of it or nothing" if i < replaceable else "which is still read"
            raise ValueError(f"out overlaps {name}, {may}")
    return out


def out_or_new(out: Any, inputs: dict[str, Array]) -> Array:
    """An array for a result shaped as the first input, which out may be."""
    x = next(iter(inputs.values()))
    if out is None:
        return np.empty(x.shape, x.dtype)
    return as_out(out, x.shape, inputs, replaceable=1)


def _same_memory(a: Array, b: Array) -> bool:
    return (
        a.__array_interface__["data"] == b.__array_interface__["data"]
        and a.shape == b.shape
        and a.strides == b.strides
    )


def _overlap(a: Array, b: Array) -> bool:
    """Whether an element of one is an element of the other, as far as can be told in short time."""
    try:
        return np.shares_memory(a, b, max_work=100_000)  # type: ignore[arg-type]  # any int
    except np.exceptions.TooHardError:
        return True


def check_scales(softcap: float | None, temperature: float, dtype: str) -> None:
    """Refuse what logits of a dtype cannot be divided by, nor their quotients multiplied."""
    most = 1e18 if dtype == "float32" else 1e150
    for name, scale in ("softcap", softcap), ("temperature", temperature):
        if scale is not None and not 1.0 / most <= scale <= most:
            raise ValueError(
                f"{name} is {scale}; expected {1.0 / most:.0e} to {most:.0e} for logits that are "
                f"computed in {dtype}"
            )

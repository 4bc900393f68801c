"""What tests of plain calls share: one call in both ways, and arguments changed in many ways.

It holds no tests itself.
"""

import contextlib
import importlib

import numpy as np

from fastbp.ops import plain_calls

inf, nan = np.inf, np.nan
N, C = 6, 5

PAGES = {
    "softmax_cross_entropy": "row_loss",
    "element_losses": "element_loss",
    "cross_entropy": "_problem",
    "calls": "as_values",
}


@contextlib.contextmanager
def general_way(patch):
    """Nothing is found or remembered."""
    with patch.context() as inside:
        forget_doors(inside)
        yield


def forget_doors(patch):
    """No call finds a door, or makes one."""
    for what in list(plain_calls.doors):
        patch.delitem(plain_calls.doors, what)
    patch.setattr(plain_calls, "keep", lambda *_: None)


@contextlib.contextmanager
def plain_way(patch):
    """Whatever is not remembered fails."""

    def forbidden(*_, **__):
        raise AssertionError("went the general way")

    with patch.context() as inside:
        for page, check in PAGES.items():
            inside.setattr(importlib.import_module(f"fastbp.ops.{page}"), check, forbidden)
        yield


def outcome(function, given):
    """What a call of new arrays returns or raises, and what becomes of those arrays: their bits."""
    arguments = given()
    positional = [v for k, v in arguments.items() if k.startswith("_")]
    named = {k: v for k, v in arguments.items() if not k.startswith("_")}
    try:
        result = function(*positional, **named)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other way must raise it, too
        said = type(error), str(error)
    else:
        said = tuple(map(bits, result if isinstance(result, tuple) else (result,)))
    return said, [bits(a) for a in arguments.values() if isinstance(a, np.ndarray)]


def bits(a):
    return type(a), a.dtype.str, a.shape, a.tobytes()


def check_both_ways(function, given, patch, name):
    """Twice as calls are remembered, and the general way."""
    outcome(function, given)
    found = outcome(function, given)
    with general_way(patch):
        expected = outcome(function, given)
    assert found == expected, name


# what may be wrong with arguments -----------------------------------------------------------------


def strided(a):
    """The same numbers, but every other place is skipped along the last axis."""
    wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
    wide[..., ::2] = a
    return wide[..., ::2]


def apart(a):
    """Rows with a gap between them."""
    wide = np.zeros((*a.shape[:-1], a.shape[-1] + 3), a.dtype)
    wide[..., : a.shape[-1]] = a
    return wide[..., : a.shape[-1]]


def unaligned(a):
    room = np.zeros(a.nbytes + 1, np.uint8)
    view = room[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


class Subclass(np.ndarray):
    pass


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


FORMS = {
    "strided": strided,
    "apart": apart,
    "unaligned": unaligned,
    "swapped": lambda a: a.astype(a.dtype.newbyteorder()) if a.dtype.kind != "V" else a,
    "read-only": read_only,
    "Fortran": np.asfortranarray,
    "reversed": lambda a: a[::-1],
    "subclass": lambda a: a.view(Subclass),
    "list": lambda a: a.astype(np.float64).tolist() if a.dtype.kind != "i" else a.tolist(),
    "float16": lambda a: a.astype(np.float16),
    "float64": lambda a: a.astype(np.float64),
    "bool": lambda a: a.astype(np.float64) > 0.5,
    "int32": lambda a: a.astype(np.int32),
    "uint8": lambda a: a.astype(np.uint8),
    "complex": lambda a: a.astype(np.float64).astype(complex),
    "one fewer": lambda a: a[:-1],
    "one axis more": lambda a: a[None],
    "flat": lambda a: a.reshape(-1),
    "nothing": lambda a: a[:0],
    "zeros": lambda a: a * 0,
    "negative": lambda a: (-1 - a.astype(np.float64)).astype(a.dtype),
    "huge": lambda a: np.full_like(a, 100 if a.dtype.kind == "i" else np.finfo(np.float16).max),
    "large": lambda a: a if a.dtype.kind == "i" else (a * 1e38).astype(a.dtype),
}
VALUES = (nan, inf, -inf, -0.0, 1e-40, -3)


def with_value(a, value):
    """The value, which integers take as something else, at a few places."""
    a = a.copy()
    a.reshape(-1)[1::4] = np.array(value).astype(a.dtype)
    return a


def changes_of(names):
    """Every array in every form, with every value, and all rows of them missing."""
    yield "plain", lambda p: None
    for name in names:

        def put(p, change, name=name):
            if isinstance(p.get(name), np.ndarray):
                p[name] = change(p[name])

        for form, change in FORMS.items():
            yield f"{name} {form}", lambda p, put=put, change=change: put(p, change)
        for v in VALUES:
            yield f"{name} {v}", lambda p, put=put, v=v: put(p, lambda a: with_value(a, v))

    def first_rows(p, n):
        for name in names:
            if isinstance(p.get(name), np.ndarray) and len(p[name]) == N:
                p[name] = p[name][:n].copy()

    yield "no rows", lambda p: first_rows(p, 0)
    yield "one row", lambda p: first_rows(p, 1)


def like_x(p):
    return np.full(p["_x"].shape, 7, p["_x"].dtype)


def beside(p, name, by):
    """`out` in one piece of memory with an argument, so many numbers behind it."""
    a = p[name]
    room = np.zeros(p["_x"].size + a.size + by, p["_x"].dtype)
    if a.dtype != room.dtype:
        room = np.zeros(room.size * 8, np.uint8)
        p[name] = room[: a.nbytes].view(a.dtype).reshape(a.shape)
        size = p["_x"].nbytes
        start = min(by, 1) * 8
        p["out"] = room[start : start + size].view(p["_x"].dtype).reshape(p["_x"].shape)
    else:
        p[name] = room[: a.size].reshape(a.shape)
        p["out"] = room[by : by + p["_x"].size].reshape(p["_x"].shape)
    p[name][...] = a


def changes_of_out(names):
    yield "out", lambda p: p.update(out=like_x(p))
    yield "in place", lambda p: p.update(out=p["_x"])
    for form, change in FORMS.items():
        yield f"out {form}", lambda p, change=change: p.update(out=change(like_x(p)))
    yield "a number as out", lambda p: p.update(out=1.0)
    yield (
        "out many times one",
        lambda p: p.update(
            out=np.lib.stride_tricks.as_strided(like_x(p), strides=(0,) * p["_x"].ndim)
        ),
    )
    for name in names:
        for by in (0, 1):

            def change(p, name=name, by=by):
                if isinstance(p.get(name), np.ndarray):
                    beside(p, name, by)

            yield f"out {by} behind {name}", change


def check_changes(function, plain, changes, patch, options, is_plain=True):
    """Both ways say the same of plain arguments and of all that is changed."""
    check_both_ways(function, plain, patch, options)
    if is_plain:
        with plain_way(patch):
            said = outcome(function, plain)[0]
        assert said[0] is not AssertionError, f"{options}: {said}"
    for what, change in changes:

        def given(change=change):
            p = plain()
            with np.errstate(all="ignore"):
                change(p)
            return p

        check_both_ways(function, given, patch, f"{options} {what}")

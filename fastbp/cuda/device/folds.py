"""The words that fold what the threads of a group have, and those of single numbers of a row."""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing.templates import signature

from ...cpu import vectors
from ...cpu.simd import I32, I64, computed, constant
from ...elementary import larger
from ...formulas import softmax as formulas
from ..staging import BLOCK, THREAD, WARPS
from .kinds import SHARED, Row, intrinsic, special, word
from .memory import chip_memory, load_one, store_one
from .places import ALL_LANES, barrier, group_size, lane_of
from .scalars import Scalar

# Which thread's value `from_lane` gives: that of the lane whose number differs in a bit, or of one.
BUTTERFLY, ONE = 3, 0


def from_lane(b: ir.IRBuilder, v: ir.Value, mode: int, lane: int) -> ir.Value:
    """What another thread of the warp has as v."""
    kind = v.type
    if kind in (ir.DoubleType(), I64):
        bits = b.bitcast(v, I64)
        low, high = b.trunc(bits, I32), b.trunc(b.lshr(bits, I64(32)), I32)
        low, high = (b.zext(from_lane(b, part, mode, lane), I64) for part in (low, high))
        return b.bitcast(b.or_(low, b.shl(high, I64(32))), kind)
    bits = b.bitcast(v, I32)
    pair = ir.LiteralStructType([I32, ir.IntType(1)])
    result = intrinsic(
        b, "llvm.nvvm.shfl.sync.i32", pair, I32(ALL_LANES), I32(mode), bits, I32(lane), I32(31)
    )
    return b.bitcast(b.extract_value(result, 0), kind)


Fold = Callable[[list[ir.Value], list[ir.Value]], list[ir.Value]]


def fold_warp(b: ir.IRBuilder, values: list[ir.Value], fold: Fold) -> list[ir.Value]:
    """The values of all lanes of a warp folded, the same in every lane."""
    distance = WARPS // 2
    while distance:
        values = fold(values, [from_lane(b, v, BUTTERFLY, distance) for v in values])
        distance //= 2
    return values


def fold_group(
    b: ir.IRBuilder, group: int, values: list[ir.Value], identity: list[ir.Value], fold: Fold
) -> list[ir.Value]:
    """The values of all threads of a group folded, the same in each of them."""
    if group == THREAD:
        return values
    values = fold_warp(b, values, fold)
    if group == WARPS:
        return values
    # Each warp leaves its values on the chip, and all warps fold those.
    me = special(b, "tid.x")
    my_warp, my_lane = b.lshr(me, I64(5)), b.and_(me, I64(WARPS - 1))
    n_warps = b.lshr(special(b, "ntid.x"), I64(5))
    places = []
    for k, v in enumerate(values):
        at = b.gep(chip_memory(b), [I32(k * WARPS * 8)])
        places.append(b.bitcast(at, v.type.as_pointer(SHARED)))
    barrier(b, BLOCK)
    with b.if_then(b.icmp_signed("==", my_lane, I64(0))):
        for place, v in zip(places, values, strict=True):
            b.store(v, b.gep(place, [b.trunc(my_warp, I32)]))
    barrier(b, BLOCK)
    exists = b.icmp_signed("<", my_lane, n_warps)
    at = b.select(exists, b.trunc(my_lane, I32), I32(0))
    values = [
        b.select(exists, b.load(b.gep(place, [at])), nothing)
        for place, nothing in zip(places, identity, strict=True)
    ]
    return fold_warp(b, values, fold)


def folding(b: ir.IRBuilder, formula: Callable[..., Any], kind: types.Type) -> Fold:
    """A fold by a formula of twice as many numbers."""

    def fold(mine: list[ir.Value], theirs: list[ir.Value]) -> list[ir.Value]:
        out = formula(*(Scalar(b, v, kind) for v in (*mine, *theirs)))
        return [t.value for t in (out if isinstance(out, tuple) else (out,))]

    return fold


@word(vectors.max_across)
def _max_across(p: Row, v: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, p_: ir.Value, v_: ir.Value) -> ir.Value:
        least = [constant(v, float("-inf"))]
        return fold_group(b, p.group, [v_], least, folding(b, larger, v))[0]

    return signature(v, p, v), write


def _sum_across(p: Row, s: types.Type, s_lo: types.Type, like: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, p_: Any, s_: Any, lo_: Any, like_: Any) -> ir.Value:
        def add(a: Any, a_lo: Any, c: Any, c_lo: Any) -> Any:
            return formulas.add_pairs(a, a_lo, c, c_lo, a)

        zero = [constant(s, 0.0)] * 2
        parts = fold_group(b, p.group, [s_, lo_], zero, folding(b, add, s))
        return context.make_tuple(b, types.UniTuple(s, 2), parts)

    return signature(types.UniTuple(s, 2), p, s, s, s), write


for _stub in (vectors.sum_across, vectors.exps_across):
    word(_stub)(_sum_across)


@word(vectors.value_at_max_across)
def _value_at_max_across(p: Row, v: types.Type, value: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, p_: Any, v_: Any, value_: Any) -> ir.Value:
        def larger_one(a: Any, of_a: Any, c: Any, of_c: Any) -> Any:
            return formulas.larger_with(a, c, of_a, of_c)

        least = [constant(v, float("-inf")), constant(v, 0.0)]
        parts = fold_group(b, p.group, [v_, value_], least, folding(b, larger_one, v))
        if p.group != THREAD:  # of equal maxima, each thread has kept its own
            parts = [from_lane(b, part, ONE, 0) for part in parts]
        return context.make_tuple(b, types.UniTuple(v, 2), parts)

    return signature(types.UniTuple(v, 2), p, v, v), write


@word(vectors.all_but_one)
def _all_but_one(p: Row, count: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, p_: ir.Value, count_: ir.Value) -> ir.Value:
        def add(a: Any, c: Any) -> Any:
            return a + c

        zero = [constant(count, 0.0)]
        total = fold_group(b, p.group, [count_], zero, folding(b, add, count))[0]
        return (Scalar(b, total, count) - 1.0).value

    return signature(count, p, count), write


@word(vectors.pick)
def _pick(p: Row, k: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, p_: ir.Value, k_: ir.Value) -> ir.Value:
        barrier(b, p.group)
        value = load_one(b, p_, k_, p.dtype)
        barrier(b, p.group)
        return value

    return signature(computed(p.dtype), p, types.int64), write


@word(vectors.put)
def _put(p: Row, k: types.Type, value: types.Type) -> Any:
    """By the thread to whose lane p[k] belongs, which so sees it without waiting."""

    def write(context: Any, b: ir.IRBuilder, p_: Any, k_: Any, value_: Any) -> None:
        size_ = group_size(b, p.group)
        mine = b.icmp_signed("==", b.urem(k_, size_), lane_of(b, p.group))
        with b.if_then(mine):
            store_one(context, b, p_, k_, value_, p.dtype)

    return signature(types.void, p, types.int64, computed(p.dtype)), write


@word(vectors.either)
def _either(p: types.Type, q: types.Type) -> Any:
    if p == types.none:
        return signature(q, p, q), lambda context, b, p_, q_: None if q == types.none else q_
    return signature(p, p, q), lambda context, b, p_, q_: p_


@word(vectors.if_given)
def _if_given(p: types.Type, array: types.Type) -> Any:
    if array == types.none:
        return signature(types.none, p, array), lambda *_: None
    return signature(p, p, array), lambda context, b, p_, array_: p_

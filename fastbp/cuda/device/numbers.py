"""The words of one number in each thread, which is what a vector is on a GPU."""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing.templates import signature

from ...cpu import vectors
from ...cpu.simd import IR, computed, constant
from .kinds import Row, word
from .memory import load_one, store_one
from .places import lane_of


@word(vectors.at)
def _at(p: types.Type, j: types.Type) -> Any:
    if p == types.none:
        return signature(p, p, types.int64), lambda *_: None
    return signature(p, p, types.int64), lambda context, b, p_, j_: b.gep(p_, [j_])


def _number_like(stub: Callable[..., Any]) -> None:
    @word(stub)
    def _meaning(p: Row, value: types.Type) -> Any:
        kind = computed(p.dtype)
        return signature(kind, p, kind), lambda context, b, p_, v: v


_stub: Callable[..., Any]
for _stub in (vectors.number, vectors.splat, vectors.splat64):
    _number_like(_stub)


@word(vectors.sum_zero)
def _sum_zero(p: Row) -> Any:
    kind = computed(p.dtype)
    return signature(kind, p), lambda context, b, p_: constant(kind, 0.0)


@word(vectors.counts)
def _counts(p: Row, k: types.Type) -> Any:
    kind = computed(p.dtype)
    return signature(kind, p, types.int64), lambda context, b, p_, k_: constant(kind, 0.0)


@word(vectors.unless_gpu)
def _unless_gpu(p: Row) -> Any:
    return signature(types.none, p), lambda *_: None


def _load(p: Row, j: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, p_: ir.Value, j_: ir.Value) -> ir.Value:
        return load_one(b, p_, b.add(j_, lane_of(b, p.group)), p.dtype)

    return signature(computed(p.dtype), p, types.int64), write


for _stub in (vectors.load, vectors.load_wide):
    word(_stub)(_load)


def _load_some_of(p: Row) -> Any:
    kind = computed(p.dtype)

    def write(context: Any, b: ir.IRBuilder, p_: Any, j_: Any, n_: Any, fill_: Any) -> ir.Value:
        me = lane_of(b, p.group)
        start = b.block
        with b.if_then(b.icmp_signed("<", me, n_)):
            read = load_one(b, p_, b.add(j_, me), p.dtype)
            there = b.block
        chosen = b.phi(IR[kind])
        chosen.add_incoming(fill_, start)
        chosen.add_incoming(read, there)
        return chosen

    return signature(kind, p, types.int64, types.int64, kind), write


@word(vectors.load_some)
def _load_some(p: Row, j: types.Type, n: types.Type, fill: types.Type) -> Any:
    return _load_some_of(p)


@word(vectors.store)
def _store(p: Row, j: types.Type, v: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, p_: ir.Value, j_: ir.Value, v_: ir.Value) -> None:
        store_one(context, b, p_, b.add(j_, lane_of(b, p.group)), v_, p.dtype)

    return signature(types.void, p, types.int64, computed(p.dtype)), write


@word(vectors.store_some)
def _store_some(p: Row, j: types.Type, n: types.Type, v: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, p_: Any, j_: Any, n_: Any, v_: Any) -> None:
        me = lane_of(b, p.group)
        with b.if_then(b.icmp_signed("<", me, n_)):
            store_one(context, b, p_, b.add(j_, me), v_, p.dtype)

    return signature(types.void, p, types.int64, types.int64, computed(p.dtype)), write


@word(vectors.load_classes)
def _load_classes(x: Row, p: Row, j: types.Type, n: types.Type) -> Any:
    _, load_some = _load_some_of(Row(p.dtype, x.group))

    def write(context: Any, b: ir.IRBuilder, x_: Any, p_: Any, j_: Any, n_: Any) -> ir.Value:
        return load_some(context, b, p_, j_, n_, constant(computed(p.dtype), 0.0))

    return signature(computed(p.dtype), x, p, types.int64, types.int64), write


@word(vectors.first_lanes)
def _first_lanes(p: Row, v: types.Type, n: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, p_: Any, v_: Any, n_: Any) -> ir.Value:
        return b.select(b.icmp_signed("<", lane_of(b, p.group), n_), v_, constant(v, 0.0))

    return signature(v, p, v, types.int64), write


def _prefetch(p: Row, j: types.Type) -> Any:
    return signature(types.void, p, types.int64), lambda *_: None


for _stub in (vectors.prefetch, vectors.prefetch_wide, vectors.claim_wide):
    word(_stub)(_prefetch)


@word(vectors.count)
def _count(p: Row, counts: types.Type, mask: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, p_: Any, counts_: Any, mask_: Any) -> ir.Value:
        return b.fadd(counts_, b.uitofp(mask_, IR[counts]))

    return signature(counts, p, counts, mask), write


@word(vectors.count_out)
def _count_out(counts: types.Type, ones: types.Type) -> Any:
    """What stays is counted, see `_counts`."""

    def write(context: Any, b: ir.IRBuilder, counts_: ir.Value, ones_: ir.Value) -> ir.Value:
        staying = b.select(ones_, constant(counts, 0.0), constant(counts, 1.0))
        return b.fadd(counts_, staying)

    return signature(counts, counts, ones), write


@word(vectors.counted)
def _counted(p: Row, counts: types.Type) -> Any:
    """Of this thread: `all_but_one` adds up."""
    return signature(counts, p, counts), lambda context, b, p_, counts_: counts_

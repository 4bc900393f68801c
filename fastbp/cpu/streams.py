"""The words of `vectors` that speak of caches: fetching into them, and writing past them."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing.templates import signature

from . import vectors
from .halves import Half, from_float32
from .simd import I8, I32, I64, LANES, Vector, lanes_of
from .words import VECTORS_IN_WIDE, Columns, address_of, size_of, word

LINE = 64  # bytes of the cache


def prefetch_from(b: ir.IRBuilder, address: ir.Value, level: int, to_write: bool = False) -> None:
    """Ask for what stands at an address, which need not exist; 3 is the first-level cache."""
    read, data = I32(int(to_write)), I32(1)
    function = b.module.declare_intrinsic(
        "llvm.prefetch.p0",
        fnty=ir.FunctionType(ir.VoidType(), [address.type, I32, I32, I32]),
    )
    b.call(function, [address, read, I32(level), data])


@word(vectors.prefetch)
def _prefetch(p: types.Type, j: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, p_: ir.Value, j_: ir.Value) -> None:
        if not isinstance(p, Columns):
            prefetch_from(b, b.bitcast(b.gep(p_, [j_]), I8.as_pointer()), level=2)

    return signature(types.void, p, types.intp), write


def _fetch_wide(to_write: bool) -> Any:
    def meaning(p: types.Type, j: types.Type) -> Any:
        def write(context: Any, b: ir.IRBuilder, p_: ir.Value, j_: ir.Value) -> None:
            if isinstance(p, Columns) or p == types.none:
                return
            address = b.bitcast(b.gep(p_, [j_]), I8.as_pointer())
            for offset in range(0, VECTORS_IN_WIDE * _vector_size(p), LINE):
                prefetch_from(b, b.gep(address, [I64(offset)]), 2, to_write)

        return signature(types.void, p, types.intp), write

    return meaning


word(vectors.prefetch_wide)(_fetch_wide(to_write=False))
word(vectors.claim_wide)(_fetch_wide(to_write=True))


def _vector_size(p: types.Type) -> int:
    return size_of(p.dtype) * LANES[p.dtype]


@word(vectors.same_place)
def _same_place(p: types.Type, q: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, p_: ir.Value, q_: ir.Value) -> ir.Value:
        return b.icmp_unsigned("==", b.ptrtoint(p_, I64), b.ptrtoint(q_, I64))

    return signature(types.boolean, p, q), write


@word(vectors.to_boundary)
def _to_boundary(p: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, p_: ir.Value) -> ir.Value:
        bytes_left = b.and_(b.neg(b.ptrtoint(p_, I64)), I64(_vector_size(p) - 1))
        return b.udiv(bytes_left, I64(size_of(p.dtype)))

    return signature(types.intp, p), write


@word(vectors.stream)
def _stream(p: types.Type, j: types.Type, v: Vector) -> Any:
    def write(context: Any, b: ir.IRBuilder, p_: ir.Value, j_: ir.Value, v_: ir.Value) -> None:
        if isinstance(p.dtype, Half):
            v_ = from_float32(context, b, v_, p.dtype)
        n = LANES[p.dtype]
        for i in range(0, v.lanes, n):
            address = address_of(b, p_, b.add(j_, I64(i)), p)
            # Of a vector that is not aligned, LLVM would stream one number after another.
            stored = b.store(lanes_of(b, v_, i, n), address, align=_vector_size(p))
            stored.set_metadata("nontemporal", b.module.add_metadata([I32(1)]))

    return signature(types.void, p, types.intp, v), write


@word(vectors.drain)
def _drain() -> Any:
    return signature(types.void), lambda context, b: b.fence("seq_cst")

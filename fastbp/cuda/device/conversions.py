"""What the words for masks, and for numbers of two types, mean to the GPU's compiler."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing.templates import signature

from ...cpu import vectors
from ...cpu.halves import FLOAT16, I16, Half
from ...cpu.simd import I64, computed
from .. import words
from .kinds import Row, size, stored, word
from .memory import store_one, to_computed
from .places import lane_of


@word(vectors.load_mask)
def _load_mask(x: Row, mask: Row, j: types.Type, n: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, x_: Any, p: Any, j_: Any, n_: Any) -> ir.Value:
        me = lane_of(b, x.group)
        start = b.block
        with b.if_then(b.icmp_signed("<", me, n_)):
            kept = b.load(b.gep(p, [b.add(j_, me)]), align=1)
            allowed = b.icmp_unsigned("!=", kept, kept.type(0))
            there = b.block
        chosen = b.phi(ir.IntType(1))
        chosen.add_incoming(ir.IntType(1)(0), start)
        chosen.add_incoming(allowed, there)
        return chosen

    return signature(types.boolean, x, mask, types.int64, types.int64), write


@word(words.convert_place)
def _convert_place(target: Row, k: types.Type, source: Row, j: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, t: Any, k_: Any, s: Any, j_: Any) -> None:
        v = b.load(b.gep(s, [j_]), align=size(source.dtype))
        if source.dtype == target.dtype:
            b.store(v, b.gep(t, [k_]), align=size(target.dtype))
            return
        v = _as_float(b, v, source.dtype)
        if target.dtype == FLOAT16 and isinstance(v.type, ir.DoubleType):
            bits = b.bitcast(b.fptrunc(v, ir.HalfType()), I16)  # rounded once
            b.store(bits, b.gep(t, [k_]), align=2)
            return
        wanted = stored(computed(target.dtype))
        if v.type != wanted:
            v = b.fpext(v, wanted) if isinstance(wanted, ir.DoubleType) else b.fptrunc(v, wanted)
        store_one(context, b, t, k_, v, target.dtype)

    return signature(types.void, target, types.int64, source, types.int64), write


def _as_float(b: ir.IRBuilder, v: ir.Value, dtype: types.Type) -> ir.Value:
    """A number as a float; integers become float64, as NumPy's own functions take them."""
    if isinstance(dtype, Half):
        return to_computed(b, v, dtype)
    if not isinstance(dtype, types.Integer):
        return v
    if dtype.signed:
        return b.sitofp(b.sext(v, I64) if dtype.bitwidth < 64 else v, ir.DoubleType())
    return b.uitofp(b.zext(v, I64) if dtype.bitwidth < 64 else v, ir.DoubleType())

"""What those words of `vectors` mean that fold the lanes of a row: largest, sums and counts.

In a tile the lanes are rows, and nothing is folded.
"""

from collections.abc import Callable
from functools import reduce
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing.templates import signature

from ..formulas import softmax as formulas
from . import vectors
from .simd import I32, I64, INTEGER, Traced, Vector, computed, constant, ir_type, spread
from .words import Columns, double_behind, vector_behind, word


def _fold(p: types.Type, formula: Callable[..., Any], *kinds: types.Type) -> Any:
    """A formula that folds vectors to numbers; of a tile the vectors themselves."""
    count = 1 if formula is formulas.max_of_lanes else 2
    folded = kinds[:count] if isinstance(p, Columns) else [k.element for k in kinds[:count]]
    result = folded[0] if count == 1 else types.Tuple(folded)

    def write(context: Any, b: ir.IRBuilder, p_: ir.Value, *values: ir.Value) -> ir.Value:
        parts = list(values[:count])
        if not isinstance(p, Columns):
            traced = [Traced(b, v, k) for v, k in zip(values, kinds, strict=True)]
            out = formula(*traced)
            parts = [t.value for t in (out if isinstance(out, tuple) else (out,))]
        return parts[0] if count == 1 else context.make_tuple(b, result, parts)

    return signature(result, p, *kinds), write


@word(vectors.max_across)
def _max_across(p: types.Type, v: Vector) -> Any:
    return _fold(p, formulas.max_of_lanes, v)


def sum_across(p: types.Type, s: Vector, s_lo: Vector, like: types.Type) -> Any:
    """What that word means."""
    return _fold(p, formulas.sum_of_lanes, s, s_lo, like)


word(vectors.sum_across)(sum_across)


@word(vectors.exps_across)
def _exps_across(p: types.Type, s: Vector, s_lo: Vector, like: types.Type) -> Any:
    if computed(p.dtype) == types.float64:
        return sum_across(p, s, s_lo, like)
    if not isinstance(p, Columns):
        return _fold(p, formulas.exps_of_lanes, s, s_lo, like)

    def write(context: Any, b: ir.IRBuilder, p_: Any, s_: Any, lo_: Any, like_: Any) -> ir.Value:
        total = formulas.whole_exps(Traced(b, s_, s).in_turns())
        return context.make_tuple(b, types.UniTuple(s, 2), [total.value, lo_])

    return signature(types.UniTuple(s, 2), p, s, s_lo, like), write


@word(vectors.value_at_max_across)
def _value_at_max_across(p: types.Type, v: Vector, value: Vector) -> Any:
    return _fold(p, formulas.value_at_max_of_lanes, v, value)


@word(vectors.sum_zero)
def _sum_zero(p: types.Type) -> Any:
    kind = double_behind(p) if isinstance(p, Columns) else types.float64
    return signature(kind, p), lambda context, b, p_: constant(kind, 0.0)


def counts_behind(pointer: types.Type) -> Vector:
    """Integers as wide as the numbers, and as many."""
    kind = vector_behind(pointer)
    return Vector(INTEGER[kind.element], kind.lanes)


@word(vectors.counts)
def _counts(p: types.Type, k: types.Type) -> Any:
    kind = counts_behind(p)

    def write(context: Any, b: ir.IRBuilder, p_: ir.Value, k_: ir.Value) -> ir.Value:
        return spread(b, k_ if kind.element == types.int64 else b.trunc(k_, I32), kind)

    return signature(kind, p, types.intp), write


@word(vectors.count)
def _count(p: types.Type, counts: Vector, mask: Vector) -> Any:
    def write(context: Any, b: ir.IRBuilder, p_: Any, counts_: Any, mask_: Any) -> ir.Value:
        masks = [v.value for v in Traced(b, mask_, mask).parts(counts.lanes)]
        return reduce(b.sub, [b.sext(m, ir_type(counts)) for m in masks], counts_)

    return signature(counts, p, counts, mask), write


@word(vectors.count_out)
def _count_out(counts: Vector, ones: Vector) -> Any:
    def write(context: Any, b: ir.IRBuilder, counts_: ir.Value, ones_: ir.Value) -> ir.Value:
        return reduce(b.sub, [v.value for v in Traced(b, ones_, ones).parts(counts.lanes)], counts_)

    return signature(counts, counts, ones), write


@word(vectors.counted)
def _counted(p: types.Type, counts: Vector) -> Any:
    if isinstance(p, Columns):
        return signature(counts, p, counts), lambda context, b, p_, counts_: counts_

    def write(context: Any, b: ir.IRBuilder, p_: ir.Value, counts_: ir.Value) -> ir.Value:
        wide = b.sext(counts_, ir.VectorType(I64, counts.lanes))
        name = f"llvm.vector.reduce.add.v{counts.lanes}i64"
        add = b.module.declare_intrinsic(name, fnty=ir.FunctionType(I64, [wide.type]))
        return b.call(add, [wide])

    return signature(types.intp, p, counts), write


@word(vectors.all_but_one)
def _all_but_one(p: types.Type, n: types.Type) -> Any:
    kind = double_behind(p) if isinstance(p, Columns) else types.float64

    def write(context: Any, b: ir.IRBuilder, p_: ir.Value, n_: ir.Value) -> ir.Value:
        return b.fsub(b.sitofp(n_, ir_type(kind)), constant(kind, 1.0))

    return signature(kind, p, n), write

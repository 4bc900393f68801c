"""What the words that only losses need mean to the GPU's compiler; see `folds`."""

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing.templates import signature
from numba.cuda.cudadecl import registry as typing_registry
from numba.cuda.cudaimpl import registry as lowering_registry
from numba.cuda.extending import overload
from numba.cuda.typing.templates import AbstractTemplate

from ...cpu.simd import I64, computed
from .. import staging, words
from ..twins import twin
from .folds import fold_group
from .kinds import Matrix, Row, word
from .memory import load_one
from .places import CHOSEN

# The compiler is taught those functions with the others that words may mean.
FOR_LOSSES: tuple[Any, ...] = (
    staging.no_row, staging.no_result, *staging.SPARE_ROWS.values()
)  # fmt: skip
CHOSEN.update(FOR_LOSSES)


RESULT_ROW = {
    how: meanings[staging.OF_ROWS.index(words.result_row)]
    for how, meanings in staging.MEANINGS.items()
}


def choose(stub: Any, meaning: Any) -> None:
    """Let a word mean the function that `meaning` says for the types of its arguments."""

    def chosen(*kinds: Any) -> Any:
        return twin(meaning(*kinds))

    overload(twin(stub), jit_options={"forceinline": True}, strict=False)(chosen)


def _spare_row(x: Any, room: Any, needed: Any, n: Any, slot: Any) -> Any:
    if needed is None or needed == types.none:
        return staging.no_row
    return staging.SPARE_ROWS[x.group, x.staged]


def _result_if_given(p: Any, y: Any, i: Any) -> Any:
    if y is None or y == types.none:
        return staging.no_result
    return RESULT_ROW[y.group, y.staged]


choose(words.spare_row, _spare_row)
choose(words.result_if_given, _result_if_given)


@word(words.if_staged)
def _if_staged(x: Matrix, p: types.Type) -> Any:
    if p == types.none or not x.staged:
        return signature(types.none, x, p), lambda *_: None
    return signature(p, x, p), lambda context, b, x_, p_: p_


@typing_registry.register_global(operator.getitem)
class GetItem(AbstractTemplate):
    """p[j], by this thread alone."""

    def generic(self, args: tuple[types.Type, ...], kws: Any) -> Any:
        """Of pointers to rows, and of nothing else."""
        p, _ = args
        return signature(computed(p.dtype), p, types.int64) if isinstance(p, Row) else None


def _getitem(context: Any, b: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    p, j = args
    return load_one(b, p, j, sig.args[0].dtype)


lowering_registry.lower(operator.getitem, Row, types.int64)(_getitem)


@word(words.of_block)
def _of_block(p: Row) -> Any:
    return signature(Row(p.dtype, staging.BLOCK), p), lambda context, b, p_: p_


@word(words.least_across)
def _least_across(p: Row, k: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, p_: Any, k_: ir.Value) -> ir.Value:
        def less(mine: list[ir.Value], theirs: list[ir.Value]) -> list[ir.Value]:
            (a,), (c,) = mine, theirs
            return [b.select(b.icmp_signed("<", a, c), a, c)]

        return fold_group(b, p.group, [k_], [I64(2**63 - 1)], less)[0]

    return signature(types.int64, p, types.int64), write


@word(words.class_at)
def _class_at(labels: Row, i: types.Type, n: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, p: Any, i_: ir.Value, n_: ir.Value) -> ir.Value:
        v = load_one(b, p, i_, labels.dtype)
        whole = ir.IntType(1)(1)
        if isinstance(v.type, ir.IntType):
            k = as_64_bits(b, v, labels.dtype)
        else:
            # So small that an integer can hold it; of float32 the number of classes may be none.
            small = b.and_(
                b.fcmp_ordered(">=", v, v.type(0.0)), b.fcmp_ordered("<", v, v.type(2.0**62))
            )
            v = b.select(small, v, v.type(0.0))
            k = b.fptosi(v, I64)
            whole = b.and_(small, b.fcmp_ordered("==", b.sitofp(k, v.type), v))
        # A negative label, and one beyond all of int64, is a large unsigned number.
        return b.select(b.and_(whole, b.icmp_unsigned("<", k, n_)), k, I64(-1))

    return signature(types.int64, labels, types.int64, types.int64), write


@word(words.is_fraction)
def _is_fraction(numbers: Row, i: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, p: Any, i_: ir.Value) -> ir.Value:
        v = load_one(b, p, i_, numbers.dtype)
        if isinstance(v.type, ir.IntType):
            return b.icmp_unsigned("<=", v, v.type(1))
        return b.and_(b.fcmp_ordered(">=", v, v.type(0.0)), b.fcmp_ordered("<=", v, v.type(1.0)))

    return signature(types.boolean, numbers, types.int64), write


def as_64_bits(b: ir.IRBuilder, v: ir.Value, dtype: types.Integer) -> ir.Value:
    """An integer with its sign, if it has one."""
    if dtype.bitwidth == 64:
        return v
    return b.sext(v, I64) if dtype.signed else b.zext(v, I64)

"""The words that say where a thread is, and which rows are its own."""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing.templates import signature
from numba.cuda import cgutils

from ...cpu import vectors
from ...cpu.simd import I32, I64, computed
from .. import staging, words
from ..staging import BLOCK, THREAD, WARPS
from ..twins import twin
from .kinds import GLOBAL, Matrix, Row, intrinsic, special, stored, word
from .memory import store_one

ALL_LANES = 0xFFFFFFFF


# where a thread is --------------------------------------------------------------------------------


def _register(stub: Callable[..., Any], name: str) -> None:
    @word(stub)
    def _meaning() -> Any:
        return signature(types.int64), lambda context, b: special(b, name)


_stub: Callable[..., Any]
for _stub, _name in ((words.thread, "tid.x"), (words.threads, "ntid.x"),
                     (words.block, "ctaid.x"), (words.blocks, "nctaid.x")):  # fmt: skip
    _register(_stub, _name)


def group_size(b: ir.IRBuilder, group: int) -> ir.Value:
    """How many threads a group has."""
    return special(b, "ntid.x") if group == BLOCK else I64(group)


def lane_of(b: ir.IRBuilder, group: int) -> ir.Value:
    """A thread's number in its group."""
    if group == THREAD:
        return I64(0)
    me = special(b, "tid.x")
    return me if group == BLOCK else b.and_(me, I64(WARPS - 1))


def _lanes(p: Row) -> Any:
    return signature(types.int64, p), lambda context, b, p_: group_size(b, p.group)


for _stub in (vectors.lanes, vectors.wide):
    word(_stub)(_lanes)


@word(words.lane)
def _lane(p: Row) -> Any:
    return signature(types.int64, p), lambda context, b, p_: lane_of(b, p.group)


def barrier(b: ir.IRBuilder, group: int) -> None:
    """Wait for the group."""
    if group == WARPS:
        intrinsic(b, "llvm.nvvm.bar.warp.sync", ir.VoidType(), I32(ALL_LANES))
    elif group == BLOCK:
        intrinsic(b, "llvm.nvvm.barrier0", ir.VoidType())


@word(words.wait)
def _wait(p: Row) -> Any:
    return signature(types.void, p), lambda context, b, p_: barrier(b, p.group)


@word(words.wait_block)
def _wait_block() -> Any:
    return signature(types.void), lambda context, b: barrier(b, BLOCK)


# matrices -----------------------------------------------------------------------------------------


def _member(stub: Callable[..., Any], name: str) -> None:
    @word(stub)
    def _meaning(x: Matrix) -> Any:
        def write(context: Any, b: ir.IRBuilder, x_: ir.Value) -> ir.Value:
            return getattr(cgutils.create_struct_proxy(x)(context, b, x_), name)

        return signature(types.int64, x), write


for _stub, _name in ((words.rows, "rows"), (words.columns, "columns"), (words.stride, "stride")):
    _member(_stub, _name)


@word(words.row_at)
def _row_at(x: Matrix, i: types.Type) -> Any:
    if x == types.none:
        return signature(types.none, x, types.int64), lambda *_: None

    def write(context: Any, b: ir.IRBuilder, x_: ir.Value, i_: ir.Value) -> ir.Value:
        struct = cgutils.create_struct_proxy(x)(context, b, x_)
        data = b.addrspacecast(
            b.bitcast(struct.data, stored(x.dtype).as_pointer()),
            stored(x.dtype).as_pointer(GLOBAL),
        )
        p = b.gep(data, [b.mul(struct.stride, i_)])
        return b.addrspacecast(p, stored(x.dtype).as_pointer())

    return signature(Row(x.dtype, x.group), x, types.int64), write


CHOSEN = {function for functions in staging.MEANINGS.values() for function in functions}


def row_word(stub: Callable[..., Any], which: int) -> None:
    """Let a word mean the function of `staging` that fits the matrix among its arguments."""
    from numba.cuda.extending import overload

    def choose(*kinds: Any) -> Any:
        matrix = next(k for k in kinds if isinstance(k, Matrix))
        return twin(staging.MEANINGS[matrix.group, matrix.staged][which])

    overload(twin(stub), jit_options={"forceinline": True}, strict=False)(choose)


for _which, _stub in enumerate(staging.OF_ROWS):
    row_word(_stub, _which)


@word(words.put_number)
def _put_number(x: Matrix, numbers: Row, i: types.Type, value: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, x_: Any, p: Any, i_: Any, v: Any) -> None:
        struct = cgutils.create_struct_proxy(x)(context, b, x_)
        if x.group == THREAD:
            i_ = b.add(i_, special(b, "tid.x"))
            mine = b.icmp_signed("<", i_, struct.rows)
        else:
            mine = b.icmp_signed("==", lane_of(b, x.group), I64(0))
        with b.if_then(mine):
            store_one(context, b, p, i_, v, numbers.dtype)

    return signature(types.void, x, numbers, types.int64, computed(numbers.dtype)), write


@word(words.own_row)
def _own_row(x: Matrix, i: types.Type) -> Any:
    def write(context: Any, b: ir.IRBuilder, x_: ir.Value, i_: ir.Value) -> ir.Value:
        return b.add(i_, special(b, "tid.x")) if x.group == THREAD else i_

    return signature(types.int64, x, types.int64), write

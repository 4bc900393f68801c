"""What the words of `vectors` that call compiled code by its address mean to the compiler."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import signature

from . import vectors
from .simd import I64, plain
from .words import word


def _call(context: Any, b: ir.IRBuilder, address: ir.Value, kinds: Any, *values: ir.Value) -> Any:
    """Call a function compiled by Numba, which returns nothing; whether it raised an error."""
    convention = context.call_conv
    function_type = convention.get_function_type(types.none, kinds)
    function = b.inttoptr(address, function_type.as_pointer())
    return convention.call_function(b, function, types.none, kinds, values)[0]


def _call_kernel_at(
    context: Any, b: ir.IRBuilder, address: ir.Value, kinds: types.Tuple, first: ir.Value,
    last: ir.Value, arguments: ir.Value,
) -> None:  # fmt: skip
    """Call a kernel with what is in the tuple, and pass on its error, if it raises one."""
    parts = cgutils.unpack_tuple(b, arguments, len(kinds))
    status = _call(context, b, address, (types.intp, types.intp, *kinds), first, last, *parts)
    with b.if_then(status.is_error, likely=False):
        context.call_conv.return_status_propagate(b, status)


@word(vectors.call_kernel)
def _call_kernel(address: types.Type, first: types.Type, last: types.Type, kinds: Any) -> Any:
    kinds = types.Tuple(plain(kinds))

    def write(
        context: Any, b: ir.IRBuilder, address_: Any, first_: Any, last_: Any, all_: Any
    ) -> None:
        _call_kernel_at(context, b, address_, kinds, first_, last_, all_)

    return signature(types.none, types.intp, types.intp, types.intp, kinds), write


@word(vectors.share)
def _share(
    loop: types.Type, kernel: types.Type, n: types.Type, chunks: types.Type, grain: types.Type,
    kinds: Any,
) -> Any:  # fmt: skip
    kinds = types.Tuple(plain(kinds))

    def write(
        context: Any, b: ir.IRBuilder, loop_: Any, kernel_: Any, n_: Any, chunks_: Any, grain_: Any,
        all_: Any,
    ) -> None:  # fmt: skip
        with b.if_else(b.icmp_signed("<", chunks_, I64(2))) as (alone, together):
            with alone:
                _call_kernel_at(context, b, kernel_, kinds, I64(0), n_, all_)
            with together:
                place = cgutils.alloca_once_value(b, all_)
                unpack = b.ptrtoint(_unpack(context, b.module, place.type, kinds), I64)
                given = unpack, kernel_, b.ptrtoint(place, I64), n_, chunks_, grain_
                _call(context, b, loop_, (types.intp,) * 6, *given)

    return signature(types.none, *[types.intp] * 5, kinds), write


def _unpack(context: Any, module: ir.Module, pointer: ir.Type, kinds: Any) -> ir.Function:
    """A new function of (first, last, kernel, place): the kernel with the arguments found there."""
    convention = context.call_conv
    function_type = convention.get_function_type(types.none, (types.intp,) * 4)
    function = ir.Function(module, function_type, module.get_unique_name("unpack"))
    function.linkage = "internal"
    b = ir.IRBuilder(function.append_basic_block())
    first, last, kernel, place = convention.get_arguments(function)
    parts = cgutils.unpack_tuple(b, b.load(b.inttoptr(place, pointer)), len(kinds))
    _call(context, b, kernel, (types.intp, types.intp, *kinds), first, last, *parts)
    convention.return_value(b, context.get_dummy_value())
    return function

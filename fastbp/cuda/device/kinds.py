"""The types of what a kernel works on, and how words are given their meaning.

`Row(dtype, group)` is a pointer that a group of threads goes along together, each with its own
lane. `Matrix` is an array of rows, handed to a kernel as a pointer, the distance of rows, and their
number and length.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.cuda import cgutils, nvvmutils
from numba.cuda.cudadecl import registry as typing_registry
from numba.cuda.cudaimpl import registry as lowering_registry
from numba.cuda.extending import core_models as models
from numba.cuda.models import register_model
from numba.cuda.typing.templates import AbstractTemplate

from ...cpu.halves import I16, Half
from ...cpu.simd import I64, IR, plain
from ..twins import twin

SHARED, GLOBAL = 3, 1  # kinds of memory: of a block, of the GPU


class Row(types.Type):
    """Pointer to a row that a group of threads computes."""

    def __init__(self, dtype: types.Type, group: int) -> None:
        self.dtype = dtype
        self.group = group
        super().__init__(name=f"Row({dtype}, {group})")


class Matrix(types.Type):
    """Rows in the GPU's memory; `staged` says whether `read_row` brings them to the chip."""

    def __init__(self, dtype: types.Type, group: int, staged: bool = True) -> None:
        self.dtype = dtype
        self.group = group
        self.staged = staged
        super().__init__(name=f"Matrix({dtype}, {group}, {staged})")


def stored(dtype: types.Type) -> ir.Type:
    """The LLVM type of a number in memory."""
    if isinstance(dtype, Half):
        return I16
    return IR[dtype] if dtype in IR else ir.IntType(dtype.bitwidth)


def size(dtype: types.Type) -> int:
    """Bytes of a number in memory."""
    return 2 if isinstance(dtype, Half) else dtype.bitwidth // 8


@register_model(Row)
class RowModel(models.PrimitiveModel):
    """A pointer."""

    def __init__(self, manager: Any, kind: Row) -> None:
        super().__init__(manager, kind, stored(kind.dtype).as_pointer())


@register_model(Matrix)
class MatrixModel(models.StructModel):
    """Where it begins, and its distances."""

    def __init__(self, manager: Any, kind: Matrix) -> None:
        members = [("data", types.CPointer(types.uint8)), ("stride", types.int64),
                   ("rows", types.int64), ("columns", types.int64)]  # fmt: skip
        super().__init__(manager, kind, members)


def word(stub: Callable[..., Any]) -> Callable[[Callable[..., Any]], None]:
    """Give a word its meaning: from the types of its arguments, a signature and a code writer."""

    def give(meaning: Callable[..., Any]) -> None:
        @typing_registry.register_global(twin(stub))
        class Template(AbstractTemplate):
            def generic(self, args: tuple[types.Type, ...], kws: Any) -> Any:
                return meaning(*plain(args))[0]

        def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
            write = meaning(*sig.args)[1]
            result = write(context, builder, *args)
            return context.get_dummy_value() if result is None else result

        lowering_registry.lower(twin(stub), types.VarArg(types.Any))(lower)

    return give


def special(b: ir.IRBuilder, name: str) -> ir.Value:
    """A special register, as 64 bits."""
    return b.zext(nvvmutils.call_sreg(b, name), I64)


def intrinsic(b: ir.IRBuilder, name: str, result: ir.Type, *operands: ir.Value) -> ir.Value:
    """A call of one of the GPU's own instructions."""
    kind = ir.FunctionType(result, [o.type for o in operands])
    return b.call(cgutils.get_or_insert_function(b.module, kind, name), operands)

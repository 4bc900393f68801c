"""Numbers of one thread of a GPU while a kernel is being compiled, and the formulas on them.

They differ from those of `fastbp.cpu.simd` in this: sums of float32 are pairs of float32, because
most GPUs have next to no float64; negation and rounding are written for the older LLVM that the
GPU's compiler reads; and a product or sum says that it is rounded by itself.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing.templates import signature
from numba.cuda import cgutils
from numba.cuda.cudadecl import registry as typing_registry
from numba.cuda.cudaimpl import registry as lowering_registry
from numba.cuda.typing.templates import AbstractTemplate

from ...cpu.simd import BITS, Traced, ir_type, plain
from ..twins import twin


class Scalar(Traced):
    """A float32, float64 or truth value of one thread."""

    __slots__ = ()

    @property
    def has_wider(self) -> bool:
        """No: float32 sums are pairs."""
        return False

    @property
    def on_gpu(self) -> bool:
        """Yes."""
        return True

    def widen(self) -> "Scalar":
        """The number itself, as its sums are of its type."""
        return self

    def differs(self, other: Traced) -> Traced:
        """Whether it does: a truth value, for which this machine has registers."""
        return self != other

    def masked(self, ones: Traced) -> Traced:
        """The number where that holds, else 0."""
        return ones.where(self, 0.0)

    def __neg__(self) -> Traced:
        return self._binary("fsub", -0.0, swap=True)  # this LLVM has no fneg

    def __abs__(self) -> Traced:
        name = {32: "llvm.nvvm.fabs.f", 64: "llvm.nvvm.fabs.d"}[self.bits]
        kind = ir_type(self.kind)
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(kind, [kind]), name
        )
        return self._new(self.builder.call(function, [self.value]))


def result_kinds(formula: Callable[..., Any], kinds: tuple[types.Type, ...]) -> Any:
    """The types of what a formula returns, found by tracing it into a function thrown away."""
    function = ir.Function(
        ir.Module(), ir.FunctionType(ir.VoidType(), [ir_type(k) for k in kinds]), "typing"
    )
    builder = ir.IRBuilder(function.append_basic_block())
    result = formula(*(Scalar(builder, a, k) for a, k in zip(function.args, kinds, strict=True)))
    if isinstance(result, tuple):
        return types.Tuple([part.kind for part in result])
    return result.kind


def of_one_kind(kinds: tuple[types.Type, ...]) -> tuple[types.Type, ...]:
    """Types of a formula's arguments: float64, if there is a float32, can only be a literal."""
    if types.float32 not in kinds:
        return kinds
    return tuple(types.float32 if k in {types.float64, types.int64} else k for k in kinds)


def teach(formula: Callable[..., Any]) -> None:
    """Let kernels call a formula by its plain function."""

    @typing_registry.register_global(twin(formula))
    class Template(AbstractTemplate):
        def generic(self, args: tuple[types.Type, ...], kws: Any) -> Any:
            kinds = of_one_kind(plain(args))
            if not all(k in BITS or k == types.boolean for k in kinds):
                return None
            return signature(result_kinds(formula, kinds), *kinds)

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        result = formula(*(Scalar(builder, a, k) for a, k in zip(args, sig.args, strict=True)))
        if isinstance(result, tuple):
            return context.make_tuple(builder, sig.return_type, [part.value for part in result])
        return result.value

    lowering_registry.lower(twin(formula), types.VarArg(types.Any))(lower)

"""How Numba compiles a kernel and the functions it calls: its own way, less what is in vain here.

Kernels hold no closures and no expressions of whole arrays, which some of Numba's passes look for.
And the functions that kernels call are part of every kernel that calls them, where they are
optimised together with it: nobody needs them optimised, or as machine code, by themselves.
"""

from typing import Any

from numba.core import typed_passes, untyped_passes
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder, PassManager
from numba.core.compiler_machinery import register_pass

IN_VAIN = {
    typed_passes.InlineOverloads,
    typed_passes.NopythonRewrites,
    untyped_passes.InlineClosureLikes,
    untyped_passes.InlineInlinables,
}


class ForKernels(CompilerBase):
    """The passes that make a kernel."""

    def define_pipelines(self) -> list[PassManager]:
        """All passes but those in vain."""
        return [self._with(typed_passes.NativeLowering)]

    def _with(self, lowering: Any) -> PassManager:
        passes = PassManager("fastbp")
        for one, what in DefaultPassBuilder.define_nopython_pipeline(self.state).passes:
            if one not in IN_VAIN:
                passes.add_pass(lowering if one is typed_passes.NativeLowering else one, what)
        passes.finalize()
        return passes


class ForInlined(ForKernels):
    """The passes that make a function which is inlined wherever it is called."""

    def define_pipelines(self) -> list[PassManager]:
        """The same, up to machine code."""
        return [self._with(InlinedLowering)]


@register_pass(mutates_CFG=True, analysis_only=False)
class InlinedLowering(typed_passes.NativeLowering):
    """Writes a function into a library that stays as it is."""

    _name = "fastbp_inlined_lowering"

    def run_pass(self, state: Any) -> bool:
        """Numba makes a library of its own if there is none."""
        state.library = InlinedLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        return bool(super().run_pass(state))


class InlinedLibrary(JITCodeLibrary):
    """A function for others to inline; as nobody calls it, it has no address and no environment."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """None."""
        return 0

    @property
    def codegen(self) -> Any:
        """Whom Numba then asks to `set_env`."""
        return self

    def set_env(self, env_name: str, env: Any) -> None:
        """Nothing."""

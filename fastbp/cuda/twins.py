"""Twins of functions, by which a GPU's compiler knows them.

Numba's compiler for CPUs is taught by registries that numba-cuda looks into, too, and both key them
by the function. So that one process can compile for both, every function that a kernel calls has a
twin for GPUs, which differs in this alone: it is another object, and calls twins.
"""

from collections.abc import Callable
from types import CellType, FunctionType
from typing import Any

from ..cpu.run import FORMULAS, names_in

WORDS = ("fastbp.cpu.vectors", "fastbp.cuda.words")  # known by what `device` says of them

_twins: dict[Any, FunctionType] = {}


def twin(function: Callable[..., Any]) -> Any:
    """The GPU's own copy of a function of fastbp."""
    if function not in _twins:
        assert isinstance(function, FunctionType)  # noqa: S101  (whatever kernels name is one)
        cells = tuple(CellType(_or_twin(c.cell_contents)) for c in function.__closure__ or ())
        names: dict[str, Any] = {}
        copy = FunctionType(
            function.__code__, names, function.__name__, function.__defaults__, cells or None
        )
        copy.__kwdefaults__ = function.__kwdefaults__
        # The compiler wants to find it by its name.
        copy.__module__, copy.__name__ = __name__, f"{function.__name__}_{len(_twins)}"
        globals()[copy.__name__] = copy
        _twins[function] = _twins[copy] = copy
        if function.__module__.startswith(FORMULAS):
            names.update(function.__globals__)  # it is called as it stands
        else:
            used = names_in(function.__code__) & function.__globals__.keys()
            names.update({name: _or_twin(function.__globals__[name]) for name in used})
    return _twins[function]


def _or_twin(value: Any) -> Any:
    if isinstance(value, FunctionType) and value.__module__.startswith("fastbp."):
        return twin(value)
    return value

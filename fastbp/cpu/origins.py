"""Of what kernels are made: so that a GPU's kernel can be made of the same functions."""

from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple, ParamSpec

Kernel = Callable[..., Any]
Given = ParamSpec("Given")


class Origin(NamedTuple):
    """The name of the factory that made a kernel, and what it was given."""

    factory: str
    given: tuple[Any, ...]


origins: dict[Kernel, Origin] = {}

# Of kernels that a GPU computes in another way where a row is too long for its chip.
origins_when_long: dict[Kernel, Origin] = {}

# Of kernels that a GPU shares a huge row among blocks for: how, as `cuda.ranges` calls it.
origins_when_huge: dict[Kernel, Origin] = {}


def recorded(factory: Callable[Given, Kernel]) -> Callable[Given, Kernel]:
    """The factory, noting of what it makes a kernel; functions are given to it by position."""

    @wraps(factory)
    def make(*given: Given.args, **named: Given.kwargs) -> Kernel:
        kernel = factory(*given, **named)
        origins[kernel] = Origin(factory.__name__, given)
        return kernel

    return make


def when_long(kernel: Kernel, factory: str, *given: Any) -> None:
    """Let a GPU make the kernel of these for rows that are too long for its chip."""
    origins_when_long[kernel] = Origin(factory, given)


def when_huge(kernel: Kernel, way: str, *given: Any) -> None:
    """Let a GPU share the rows of the kernel among blocks in this way, where they are huge."""
    origins_when_huge[kernel] = Origin(way, given)

"""Compiling kernels for the GPU at hand, keeping them, and launching them.

The arguments of a kernel are `Rows` (a matrix), `Numbers` (a pointer), integers, and `Real`
(a number of the kernel's own type). How the threads share rows is chosen by their length alone, so
that a row has the same bits wherever it stands.
"""

import re
import threading
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, NamedTuple

from ..checks import HALVES
from . import driver
from .staging import SCRATCH, pitch_of_tile, room_for

Kernel = Callable[..., None]


class Rows(NamedTuple):
    """Rows in the GPU's memory; the stride is that from row to row, in numbers."""

    address: int
    dtype: str
    stride: int
    rows: int
    columns: int


class Numbers(NamedTuple):
    """Numbers in the GPU's memory, one after another."""

    address: int
    dtype: str


class Real(NamedTuple):
    """A number, given to a kernel in its own type."""

    value: float
    dtype: str


class Reals(NamedTuple):
    """Several of them, as a tuple: a pair, say."""

    values: tuple[float, ...]
    dtype: str


class Regime(NamedTuple):
    """How threads share the rows of a matrix."""

    name: str
    group: int  # threads for a row; 0 for all of a block
    staged: bool  # whether rows come to the chip


TILE = Regime("tile", 1, staged=True)
WARP = Regime("warp", 32, staged=True)
BLOCK = Regime("block", 0, staged=True)
LONG = Regime("long", 0, staged=False)
REGIMES = (TILE, WARP, BLOCK, LONG)

LONGEST_IN_TILE, LONGEST_IN_WARP = 32, 1024
CHIP = 48 * 1024  # bytes that every GPU gives to a block without being asked

# The most threads of a block, for which registers are set aside.
OF_ELEMENTS = 256
SHORT_ROWS = 128
LONG_ROWS = 1024
LONG_ROWS_OF_FLOAT64 = 512  # a number takes two registers, and 64 for each thread do not suffice

# What a kernel's code depends on beside fastbp and what it needs on CPUs.
PACKAGES = (
    "numba-cuda", "cuda-core", "nvidia-nvvm", "nvidia-cuda-nvcc-cu12", "nvidia-nvjitlink",
    "nvidia-nvjitlink-cu12",
)  # fmt: skip


class Launch(NamedTuple):
    """How many blocks, of how many threads, with how many bytes on the chip."""

    blocks: int
    threads: int
    chip: int


class Place(NamedTuple):
    """Where to compute: on which GPU, and after what else."""

    device: int
    stream: int


def computed(dtype: str) -> str:
    """The type in which numbers kept in this one are computed."""
    return "float32" if dtype in HALVES else dtype


def itemsize(dtype: str) -> int:
    """Bytes of a number on the chip, where those of 16 bits are float32."""
    return 8 if dtype == "float64" else 4


def regime_of(columns: int, slots: int, dtype: str, chip: int = CHIP) -> Regime:
    """How rows of this length are shared, `slots` of them being on the chip at once."""
    if columns <= LONGEST_IN_TILE:
        return TILE
    if columns <= LONGEST_IN_WARP:
        return WARP
    needed = SCRATCH + slots * room_for(columns) * itemsize(dtype)
    return BLOCK if needed <= chip else LONG


def most_threads(dtype: str, regime: Regime) -> int:
    """Of a block that computes rows."""
    if regime in {TILE, WARP}:
        return SHORT_ROWS
    return LONG_ROWS_OF_FLOAT64 if dtype == "float64" else LONG_ROWS


def geometry(regime: Regime, rows: int, columns: int, slots: int, dtype: str) -> Launch:
    """Blocks, threads and memory for a matrix."""
    size = itemsize(dtype)
    if regime is TILE:
        threads = SHORT_ROWS
        while SCRATCH + slots * threads * pitch_of_tile(columns) * size > CHIP:
            threads //= 2
        per_block, chip = threads, slots * threads * pitch_of_tile(columns) * size
    elif regime is WARP:
        # As many warps as fit, for few rows are long ones.
        warps = max(
            1, min(SHORT_ROWS // 32, (CHIP - SCRATCH) // (slots * room_for(columns) * size))
        )
        threads, per_block = 32 * warps, warps
        chip = slots * warps * room_for(columns) * size
    else:
        threads, per_block = (256 if columns <= 4096 else 512 if columns <= 16384 else 1024), 1
        threads = min(threads, most_threads(dtype, regime))
        chip = slots * room_for(columns) * size if regime is BLOCK else 0
    blocks = max(1, min(-(-rows // per_block), 2**31 - 1))
    return Launch(blocks, threads, SCRATCH + chip)


def geometry_of_elements(n: int, place: Place) -> Launch:
    """Blocks and threads for n numbers; a few dozen warps for each multiprocessor suffice."""
    blocks = min(-(-n // OF_ELEMENTS), 16 * driver.device(place.device).multiprocessors)
    return Launch(max(1, blocks), OF_ELEMENTS, SCRATCH)


# arguments ----------------------------------------------------------------------------------------


def numba_type(argument: Any, regime: Regime) -> Any:
    """The type under which a kernel takes an argument."""
    from numba.core import types

    from ..cpu.halves import BY_NAME
    from .device.kinds import Matrix, Row

    if isinstance(argument, Rows):
        return Matrix(BY_NAME.get(argument.dtype) or getattr(types, argument.dtype),
                      regime.group, regime.staged)  # fmt: skip
    if isinstance(argument, Numbers):
        return Row(BY_NAME.get(argument.dtype) or getattr(types, argument.dtype), 1)
    if isinstance(argument, Real):
        return getattr(types, argument.dtype)
    if isinstance(argument, Reals):
        return types.UniTuple(getattr(types, argument.dtype), len(argument.values))
    if argument is None:
        return types.none
    return types.int64


def flat(arguments: tuple[Any, ...]) -> list[Any]:
    """The arguments as the compiled kernel takes them, one machine word each."""
    words: list[Any] = []
    for a in arguments:
        kind = type(a)
        if kind is Rows:
            words += (a.address, a.stride, a.rows, a.columns)
        elif kind is Numbers:
            words.append(a.address)
        elif kind is Real:
            words.append(a.value)
        elif kind is Reals:
            words += a.values
        elif a is not None:
            words.append(a)
    return words


def layout(arguments: tuple[Any, ...]) -> str:
    """A letter for each of these words, as module `struct` has them."""
    letters = {Rows: "Qqqq", Numbers: "Q"}
    reals = {"float32": "f", "float64": "d"}
    return "".join(
        reals[a.dtype] if isinstance(a, Real)
        else reals[a.dtype] * len(a.values) if isinstance(a, Reals)
        else "" if a is None else letters.get(type(a), "q")
        for a in arguments
    )  # fmt: skip


def kinds(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """What tells the types of arguments apart."""
    return tuple(
        a is None if a is None or isinstance(a, int)
        else (type(a), a.dtype, len(a.values) if isinstance(a, Reals) else 1)
        for a in arguments
    )  # fmt: skip


# launching ----------------------------------------------------------------------------------------

_loaded: dict[Any, driver.Function] = {}
_compiling = threading.RLock()


def launch_rows(kernel: Kernel, slots: int, dtype: str, place: Place, *arguments: Any) -> Any:
    """Launch a kernel for the rows of the first matrix among its arguments.

    `slots` of them are on the chip at once, of numbers of that type.
    """
    x = next(a for a in arguments if type(a) is Rows)
    if x.rows == 0:
        return None
    regime = regime_on(place, x.columns, slots, dtype)
    shape = geometry(regime, x.rows, x.columns, slots, dtype)
    return execute(kernel, regime, shape, most_threads(dtype, regime), place, arguments)


def regime_on(place: Place, columns: int, slots: int, dtype: str) -> Regime:
    """How a GPU shares rows of this length."""
    return _regime(columns, slots, dtype, place.device)


@cache
def _regime(columns: int, slots: int, dtype: str, device: int) -> Regime:
    return regime_of(columns, slots, dtype, max(CHIP, driver.device(device).chip))


def launch_elements(kernel: Kernel, n: int, place: Place, *arguments: Any) -> Any:
    """Launch a kernel of elements, of which there are n."""
    if n == 0:
        return None
    return execute(kernel, TILE, geometry_of_elements(n, place), OF_ELEMENTS, place, arguments)


class Launched(NamedTuple):
    """A launch, to be done again with other addresses."""

    function: driver.Function
    shape: Launch
    words: list[Any]
    addresses: tuple[int, ...]  # which of the words are addresses


def execute(
    kernel: Kernel,
    regime: Regime,
    shape: Launch,
    most: int,
    place: Place,
    arguments: tuple[Any, ...],
) -> Launched:
    """Launch a kernel, compiled for blocks of at most so many threads when it first comes."""
    key = (kernel, regime.name, most, place.device, kinds(arguments))
    function = _loaded.get(key)
    if function is None:
        function = _load(key, kernel, regime, most, place, arguments)
    words = flat(arguments)
    driver.launch(function, shape.blocks, shape.threads, shape.chip, place.stream, words)
    letters = enumerate(layout(arguments))
    return Launched(function, shape, words, tuple(i for i, letter in letters if letter == "Q"))


def again(launched: Launched, addresses: Iterable[int], stream: int) -> None:
    """The same launch for other arrays, laid out as the first ones were."""
    words = launched.words.copy()
    for i, address in zip(launched.addresses, addresses, strict=True):
        words[i] = address
    blocks, threads, chip = launched.shape
    driver.launch(launched.function, blocks, threads, chip, stream, words)


def _load(
    key: Any, kernel: Kernel, regime: Regime, most: int, place: Place, arguments: tuple[Any, ...]
) -> driver.Function:
    """Compile a kernel, or find it on disk, and bring it to the GPU."""
    from ..cpu import cache as disk
    from ..cpu.run import full_name

    with _compiling:
        if key not in _loaded:
            device = driver.device(place.device)
            name = plain_name(kernel)
            types = [(k[0].__name__, *k[1:]) if isinstance(k, tuple) else k for k in key[-1]]
            file = disk.file_name(
                full_name(kernel), regime, most, types, device.architecture, versions()
            )
            cubin = disk.read(file)
            if cubin is None:
                cubin = _compiled(kernel, name, regime, most, device, arguments)
                disk.write(file, cubin)
            chip = device.chip if regime.staged else CHIP
            _loaded[key] = driver.load(cubin, name, place.device, chip, layout(arguments))
        return _loaded[key]


def _compiled(
    kernel: Kernel,
    name: str,
    regime: Regime,
    most: int,
    device: driver.Device,
    arguments: tuple[Any, ...],
) -> bytes:
    from . import compiler

    compiler.numba_cuda()
    signature = tuple(numba_type(a, regime) for a in arguments)
    code = compiler.compiled(kernel, name, signature, device.capability, most)
    return code.cubin(device.architecture)[0]


# What most kernels are made with, what only joins functions to each other, and first halves.
UNSAID = {
    "", "store", "to_row", "to_exponentials", "not_written", "total", "sums", "traversed", "enter",
    "put_wide", "reduced_minus", "quickly_reduced_minus", "True", "False",
}  # fmt: skip


def plain_name(kernel: Kernel) -> str:
    """What a compiled kernel is called, as profilers show it: its factory and its functions."""
    from ..cpu.run import full_name

    parts = re.split(r"[(,]", full_name(kernel).replace(".<locals>.kernel", ""))
    words = [re.sub(r"\W", "_", part.rpartition(".")[2]).strip("_") for part in parts]
    return "_".join(["fastbp", *(word for word in words if word not in UNSAID)])


@cache
def versions() -> tuple[str, ...]:
    """Of what compiles for GPUs, as far as it is installed as packages."""
    return tuple(filter(None, map(_version, PACKAGES)))


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return ""

"""Which operations, shapes and libraries the benchmarks run over, and with how many threads."""

import contextlib

import pytest

from fastbp.bench.measure import available_threads
from fastbp.bench.peers import LIBRARIES
from fastbp.bench.problems import COPY, OPERATIONS, QUICK_SHAPES, SHAPES, shape_name, tasks


def pytest_addoption(parser):
    """--quick-shapes, --threads and --cuda."""
    group = parser.getgroup("fastbp")
    with contextlib.suppress(ValueError):  # that of the tests, where both run
        group.addoption("--cuda", action="store_true", help="run what needs a GPU, on the one here")
    group.addoption(
        "--quick-shapes",
        action="store_true",
        help=f"only the shapes {', '.join(map(shape_name, QUICK_SHAPES))}, without torch.compile: "
        "enough to see that all benchmarks work",
    )
    group.addoption(
        "--threads",
        type=int,
        default=available_threads(),
        help="how many threads each library may use (default: all cores)",
    )


def pytest_generate_tests(metafunc):
    """Every operation on every shape with every library; --quick-shapes leaves some out."""
    if "library" not in metafunc.fixturenames:
        return
    quick = metafunc.config.getoption("quick_shapes")
    cases = [
        pytest.param(operation, shape, library, id=f"{operation}-{shape_name(shape)}-{library}")
        for operation, shape, _ in tasks(OPERATIONS, QUICK_SHAPES if quick else SHAPES, ["float32"])
        for library in libraries_with(operation, quick=quick)
    ]
    metafunc.parametrize(("operation", "shape", "library"), cases)


def libraries_with(operation, *, quick):
    """Names of a copy and of the libraries that have the operation, installed or not."""
    return [COPY] + [
        library.name
        for library in LIBRARIES
        if library.has(operation) and not (quick and library.slow_to_compile)
    ]


@pytest.fixture
def threads(request):
    """How many threads each library may use."""
    return request.config.getoption("threads")


def pytest_report_header(config):
    """Say what is left out."""
    if config.getoption("quick_shapes"):
        return f"benchmarks: the quick shapes only, {', '.join(map(shape_name, QUICK_SHAPES))}"
    return None

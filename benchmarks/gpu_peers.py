"""The libraries that fastbp is compared with on a GPU, and how each computes an operation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import fastbp
from fastbp.testing import OPS

Call = Callable[[], Any]

LOSS = "softmax_cross_entropy_with_grad[labels]"
OPERATIONS = ("softmax", "log_softmax", "logsumexp", "softmax_backward", LOSS, "sigmoid")


@dataclass(frozen=True)
class Problem:
    """An operation on matrices of PyTorch, and how many bytes it must read and write."""

    operation: str
    dtype: str
    shape: tuple[int, int]
    arrays: tuple[Any, ...]  # (x,), (dy, y) or (logits, labels)
    bytes_moved: int

    @property
    def name(self) -> str:
        """As it is shown."""
        return f"{self.operation} {self.dtype} {self.shape[0]}x{self.shape[1]}"


def make_problem(
    torch: Any, operation: str, dtype: str, n_bytes: int, columns: int, least_rows: int = 1
) -> Problem:
    """Rows of random numbers, so many that the matrix has at least n_bytes."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = getattr(torch, dtype)
    size = torch.empty(0, dtype=kind).element_size()
    shape = max(least_rows, -(-n_bytes // (columns * size))), columns
    torch.manual_seed(0)
    x = (3 * torch.randn(shape, device=device)).to(kind)
    if operation == LOSS:
        arrays = x, torch.randint(columns, shape[:1], device=device)
    elif operation == "softmax_backward":
        arrays = torch.randn(shape, device=device).to(kind), torch.softmax(x, -1)
    else:
        arrays = (x,)
    moved = OPS[operation].bytes_moved(*shape, size)
    return Problem(operation, dtype, shape, arrays, moved)


# each library: a problem -> a call of it, or None -------------------------------------------------


def of_fastbp(torch: Any, problem: Problem) -> Call:
    """fastbp, on tensors of PyTorch; without a GPU on NumPy arrays."""
    function = getattr(fastbp, problem.operation.partition("[")[0])
    arrays = problem.arrays
    if not torch.cuda.is_available():
        arrays = tuple(map(_as_numpy, arrays))
    if problem.operation == LOSS:  # "raise" would wait for the GPU; PyTorch does not check at all
        return lambda: function(*arrays, on_bad_label="nan")
    return lambda: function(*arrays)


def _as_numpy(tensor: Any) -> Any:
    if "bfloat16" not in str(tensor.dtype):
        return tensor.numpy()
    import ml_dtypes
    import torch

    return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)


def eager(torch: Any, operation: str) -> Callable[..., Any]:
    """What users of PyTorch write."""
    functional = torch.nn.functional
    if operation == LOSS:
        return functional.cross_entropy
    return {
        "softmax": lambda x: torch.softmax(x, -1),
        "log_softmax": lambda x: torch.log_softmax(x, -1),
        "logsumexp": lambda x: torch.logsumexp(x, -1),
        "softmax_backward": lambda dy, y: torch.ops.aten._softmax_backward_data(  # noqa: SLF001
            dy, y, -1, dy.dtype
        ),
        "sigmoid": torch.sigmoid,
    }[operation]


def of_torch(torch: Any, problem: Problem) -> Call:
    """PyTorch as it is."""
    return _call(torch, problem, eager(torch, problem.operation))


def of_compiled_torch(torch: Any, problem: Problem) -> Call:
    """What torch.compile makes of it, for just that shape."""
    torch._dynamo.reset()  # noqa: SLF001  (or it would compile for any shape)
    function = eager(torch, problem.operation)
    if problem.operation == "softmax_backward":

        def function(dy: Any, y: Any) -> Any:  # in plain operations, which it fuses
            return y * (dy - (dy * y).sum(-1, keepdim=True))

    return _call(torch, problem, torch.compile(function, dynamic=False))


def _call(torch: Any, problem: Problem, function: Callable[..., Any]) -> Call:
    if problem.operation != LOSS:
        return lambda: function(*problem.arrays)
    x, labels = problem.arrays
    x = x.detach().requires_grad_()

    def loss_and_gradient() -> Any:
        loss = function(x, labels)
        return loss.detach(), torch.autograd.grad(loss, x)[0]

    return loss_and_gradient


def of_cupy(torch: Any, problem: Problem) -> Call | None:
    """CuPy's function, or what its users write; it computes in the type it is given."""
    if problem.dtype != "float32":
        return None
    import cupy
    from cupyx.scipy import special

    arrays = tuple(cupy.from_dlpack(a) for a in problem.arrays)
    if problem.operation == LOSS:
        return lambda: _loss_of_cupy(cupy, *arrays)
    function = {
        "softmax": lambda x: special.softmax(x, axis=-1),
        "log_softmax": lambda x: special.log_softmax(x, axis=-1),
        "logsumexp": lambda x: special.logsumexp(x, axis=-1),
        "softmax_backward": lambda dy, y: y * (dy - (dy * y).sum(-1, keepdims=True)),
        "sigmoid": special.expit,
    }[problem.operation]
    return lambda: function(*arrays)


def _loss_of_cupy(cupy: Any, x: Any, labels: Any) -> Any:
    rows = cupy.arange(len(x))
    shifted = x - x.max(-1, keepdims=True)
    e = cupy.exp(shifted)
    total = e.sum(-1, keepdims=True)
    loss = (cupy.log(total[:, 0]) - shifted[rows, labels]).mean()
    e /= total
    e[rows, labels] -= 1
    e /= len(x)
    return loss, e


FASTBP = "fastbp"
LIBRARIES: dict[str, Callable[[Any, Problem], Call | None]] = {
    FASTBP: of_fastbp,
    "torch": of_torch,
    "torch.compile": of_compiled_torch,
    "cupy": of_cupy,
}


# whether an answer is right -----------------------------------------------------------------------

# What others may be off, in eps of the largest number of the answer: more than they are, and far
# less than any mistake.
EPS_ALLOWED = 100


def largest_error(torch: Any, problem: Problem, result: Any) -> float:
    """In eps of the largest exact number, over some of the rows."""
    n = problem.shape[0]
    some = sorted({0, 1, n // 3, n // 2, n - 1} & set(range(n)))
    arrays = [a[some].double() if a.is_floating_point() else a[some] for a in problem.arrays]
    if problem.operation == LOSS:
        _, found = result
        x, labels = arrays
        exact = torch.softmax(x, -1)
        exact[torch.arange(len(some)), labels] -= 1
        exact /= n
    else:
        found, exact = result, eager(torch, problem.operation)(*arrays)
    found = found[some]
    if str(found.dtype) == "bfloat16":  # of NumPy, which PyTorch does not know
        found = found.astype("float32")
    found = torch.as_tensor(found, device=exact.device).double()
    eps = torch.finfo(getattr(torch, problem.dtype)).eps
    return float((found - exact).abs().max() / (exact.abs().max() * eps))

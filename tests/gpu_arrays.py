"""Arrays on a GPU, by whichever library is installed; or NumPy's, to rehearse."""

import contextlib
import time

import numpy as np

from fastbp.testing import Arguments


class Torch:
    """Tensors of PyTorch; the only ones whose streams and graphs are tested."""

    name = "torch"

    def __init__(self):
        import torch

        torch.zeros(1, device="cuda")
        self.torch = torch

    def to_device(self, array):
        array = np.array(array)  # writeable and contiguous
        if array.dtype.name == "bfloat16":
            bits = self.torch.from_numpy(array.view(np.int16)).cuda()
            return bits.view(self.torch.bfloat16)
        return self.torch.from_numpy(array).cuda()

    def to_host(self, tensor):
        if tensor.dtype == self.torch.bfloat16:
            import ml_dtypes

            return tensor.view(self.torch.int16).cpu().numpy().view(ml_dtypes.bfloat16)
        return tensor.cpu().numpy()

    def is_own(self, result):
        return isinstance(result, self.torch.Tensor) and result.is_cuda

    def empty(self, shape, dtype):
        return self.torch.empty(shape, dtype=getattr(self.torch, dtype), device="cuda")

    def free_bytes(self):
        self.torch.cuda.empty_cache()
        return self.torch.cuda.mem_get_info()[0]

    @contextlib.contextmanager
    def side_stream(self):
        """A stream that does not wait for the default one."""
        stream = self.torch.cuda.Stream()
        with self.torch.cuda.stream(stream):
            yield stream

    def keep_busy(self):
        """Have the current stream wait for a third of a second or so; the host does not."""
        self.torch.cuda._sleep(600_000_000)


class CuPy:
    """Arrays of CuPy."""

    name = "cupy"

    def __init__(self):
        import cupy

        cupy.zeros(1)
        self.cupy = cupy

    def to_device(self, array):
        return self.cupy.asarray(np.array(array))

    def to_host(self, array):
        return array.get()

    def is_own(self, result):
        return isinstance(result, self.cupy.ndarray)

    def empty(self, shape, dtype):
        return self.cupy.empty(shape, dtype)

    def free_bytes(self):
        self.cupy.get_default_memory_pool().free_all_blocks()
        return self.cupy.cuda.runtime.memGetInfo()[0]

    @contextlib.contextmanager
    def side_stream(self):
        with self.cupy.cuda.Stream(non_blocking=True) as stream:
            yield stream


class Numba:
    """Device arrays of numba-cuda."""

    name = "numba"

    def __init__(self):
        from fastbp.cuda.compiler import numba_cuda

        self.cuda = numba_cuda()
        self.cuda.to_device(np.zeros(1))

    def to_device(self, array):
        return self.cuda.to_device(np.array(array))

    def to_host(self, array):
        return array.copy_to_host()

    def is_own(self, result):
        return self.cuda.is_cuda_array(result) and hasattr(result, "copy_to_host")


class Rehearsal:
    """NumPy arrays, where there is no GPU: what is tested then are the tests."""

    name = "rehearsal"

    def to_device(self, array):
        return np.array(array)

    def to_host(self, array):
        return np.asarray(array)

    def is_own(self, result):
        return isinstance(result, np.ndarray | np.floating)

    def empty(self, shape, dtype):
        return np.empty(shape, dtype)

    def free_bytes(self):
        return 0

    @contextlib.contextmanager
    def side_stream(self):
        yield None

    def keep_busy(self):
        time.sleep(0)


LIBRARIES = {kind.name: kind for kind in (Torch, CuPy, Numba)}


def each(function, value):
    """`function` of an array, or of all in a tuple, however deep."""
    if isinstance(value, tuple):
        return tuple(each(function, part) for part in value)
    return function(value)


def on_device(library, arguments):
    """The same arguments with arrays on the GPU; numbers stay where they are."""

    def move(value):
        return library.to_device(value) if isinstance(value, np.ndarray) else value

    named = {name: each(move, value) for name, value in arguments.kwargs.items()}
    return Arguments(each(move, arguments.args), named)

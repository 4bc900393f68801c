"""Compiled kernels on disk, so that only the first process on a machine compiles them.

Numba's own cache looks at the file of the compiled function alone and would go on answering with
yesterday's formula. Here a folder's name is a digest of all of fastbp's sources, the versions below
it and the processor, and a file begins with the digest of its content. Whatever is wrong with a
file or a folder, the kernel is compiled afresh: that costs time and is never an error.
"""

import hashlib
import os
import pickle
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

DIGEST_SIZE = hashlib.sha256().digest_size


def root() -> Path:
    """The folder of all caches: $FASTBP_CACHE_DIR or the platform's place for such files."""
    chosen = os.environ.get("FASTBP_CACHE_DIR")
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(base)) / "fastbp"


@cache
def sources_digest() -> str:
    """Digest of everything that compiled code depends on, but for the processor."""
    import llvmlite
    import numba
    import numpy as np

    digest = hashlib.sha256()
    package = Path(__file__).resolve().parent.parent
    for path in sorted(package.rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode())
        digest.update(path.read_bytes())
    versions = (sys.version, numba.__version__, llvmlite.__version__, np.__version__)
    digest.update(repr(versions).encode())
    return digest.hexdigest()


def folder() -> Path:
    """Where the kernels of this version of fastbp are kept."""
    return root() / sources_digest()[:16]


def file_name(*key: Any) -> str:
    """The name of the file for what such a key describes."""
    return hashlib.sha256(repr(key).encode()).hexdigest()[:24] + ".kernel"


def _name(name: str, signature: Any, context: Any) -> str:
    return file_name(name, signature, context.codegen().magic_tuple())


def load(name: str, signature: Any, context: Any) -> Any:
    """The compiled kernel, or None."""
    from numba.core.compiler import CompileResult
    from numba.core.runtime import rtsys

    payload = read(_name(name, signature, context))
    if payload is None:
        return None
    # What compiled code calls. All that compiling needs besides takes three times as long.
    rtsys.initialize(context)
    return CompileResult._rebuild(context, *pickle.loads(payload))


def save(name: str, signature: Any, context: Any, compiled: Any) -> None:
    """Keep a compiled kernel, if that is possible."""
    from numba.core.serialize import dumps

    write(_name(name, signature, context), dumps(compiled._reduce()))


def read(name: str) -> bytes | None:
    """What a file of the folder holds; None if that is not what was written."""
    try:
        content = (folder() / name).read_bytes()
    except (OSError, RuntimeError):  # RuntimeError: there is no home folder
        return None
    digest, payload = content[:DIGEST_SIZE], content[DIGEST_SIZE:]
    return payload if hashlib.sha256(payload).digest() == digest else None


def write(name: str, payload: bytes) -> None:
    """Keep it in a file of the folder, if that is possible."""
    try:
        path = folder() / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written aside and renamed, so that no process ever reads half a file.
        handle, aside = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(payload).digest() + payload)
            os.replace(aside, path)
        except OSError:
            os.unlink(aside)
    except (OSError, RuntimeError):
        return


def size() -> tuple[int, int]:
    """How many kernels the folder holds, and their size in bytes."""
    try:
        sizes = [path.stat().st_size for path in folder().glob("*.kernel")]
    except (OSError, RuntimeError):
        return 0, 0
    return len(sizes), sum(sizes)

"""Load the fused CPU kernels: those built ahead (``ahead``), or else compiled once for this machine.

The latter lie in a folder named by everything they depend on: source, compiler, flags, processor, torch version.
"""

import fcntl
import functools
import hashlib
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from deep_rnn.kernels import ahead, compiler, processor


@functools.cache
def load() -> str | None:
    """Load the operators ``deep_rnn::*``, compiling them first where that has not been done.

    Returns:
        None if they are there, or else the reason why not, which is also told on stderr, once a process.
    """
    if ahead.load():
        return None
    try:
        folder = cache_root() / key()
        with only_one_at_a_time(folder):
            if not (folder / "ready").exists():
                with compiler.announced(folder):
                    compiler.compile_into(folder, "native")
                (folder / "ready").touch()
        torch.ops.load_library(folder / compiler.LIBRARY)
    except (OSError, RuntimeError) as error:
        reason = f"the fused kernels did not compile ({compiler.error_line(str(error)) or repr(error)})"
        print(f"{reason}; plain PyTorch takes over, slower", file=sys.stderr, flush=True)
        return reason
    return None


def cache_root() -> Path:
    """Where compiled kernels are kept: ``TORCH_EXTENSIONS_DIR``, or the user's cache."""
    named = os.environ.get("TORCH_EXTENSIONS_DIR")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "deep_rnn"


def key() -> str:
    """A name for the library that changes with anything it depends on."""
    parts = [torch.__version__, platform.machine(), processor.described(), compiler.version(), compiler.source_hash()]
    return "kernels-" + hashlib.sha256("\0".join([*parts, *compiler.FLAGS]).encode()).hexdigest()[:16]


@contextmanager
def only_one_at_a_time(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: several processes that start at once build once. The lock dies with its process."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "one_at_a_time").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

"""Compile the fused CPU kernels once for this machine, and load them.

The library lies in a folder named by everything it depends on: source, compiler, flags, processor, torch version.
"""

import fcntl
import functools
import hashlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

SOURCES = Path(__file__).parent / "csrc"
FLAGS = ("-std=c++20", "-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-g0")


@functools.cache
def load() -> str | None:
    """Load the operators ``deep_rnn::*``, compiling them first where that has not been done.

    Returns:
        None if they are there, or else the reason why not, which is also told on stderr, once a process.
    """
    try:
        folder = cache_root() / key()
        with only_one_at_a_time(folder):
            if not (folder / "ready").exists():
                (folder / "lock").unlink(missing_ok=True)  # the builder's own, left by a build that was killed
                compile_into(folder)
                (folder / "ready").touch()
        torch.ops.load_library(folder / "deep_rnn_kernels.so")
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        lines = [line for line in str(error).splitlines() if "error" in line.lower()] or [str(error) or repr(error)]
        reason = f"the fused kernels did not compile ({lines[-1].strip()})"
        print(f"{reason}; plain PyTorch takes over, slower", file=sys.stderr, flush=True)
        return reason
    return None


def cache_root() -> Path:
    """Where compiled kernels are kept: ``TORCH_EXTENSIONS_DIR``, or the user's cache."""
    named = os.environ.get("TORCH_EXTENSIONS_DIR")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "deep_rnn"


def key() -> str:
    """A name for the library that changes with anything it depends on."""
    parts = [torch.__version__, platform.machine(), processor(), compiler_version(), *FLAGS]
    parts += [file.name + file.read_text() for file in sorted(SOURCES.iterdir()) if file.suffix in (".h", ".cpp")]
    return "kernels-" + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def processor() -> str:
    """What ``-march=native`` looks at: the instructions that this processor has."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def compiler_version() -> str:
    """The compiler that torch's extension builder uses.

    Raises:
        OSError: there is none.
    """
    name = os.environ.get("CXX", "c++")
    try:
        return subprocess.run([name, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except FileNotFoundError:
        raise OSError(f"there is no C++ compiler {name}; CXX names another") from None


@contextmanager
def only_one_at_a_time(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: several processes that start at once build once. The lock dies with its process."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "one_at_a_time").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def compile_into(folder: Path) -> None:
    """Build the library with torch's extension builder, saying so on stderr."""
    from torch.utils import cpp_extension  # slow to import, and not needed when the library is there

    # A venv that is used without being activated has its ninja beside its python.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    print(f"compiling the fused kernels into {folder} (once, about a minute) ...", file=sys.stderr, flush=True)
    started = time.monotonic()
    cpp_extension.load(
        name="deep_rnn_kernels",
        sources=[str(file) for file in sorted(SOURCES.glob("*.cpp"))],
        extra_cflags=list(FLAGS),
        extra_ldflags=["-fopenmp"],
        build_directory=str(folder),
        is_python_module=False,
    )
    print(f"compiled the fused kernels in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)

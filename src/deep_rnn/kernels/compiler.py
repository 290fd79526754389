"""The C++ compiler, and how it makes the fused kernels' library of their sources."""

import functools
import hashlib
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch

from deep_rnn.kernels import processor
from deep_rnn.naming import did_you_mean

SOURCES = Path(__file__).parent / "csrc"
FLAGS = ("-std=c++20", "-O3", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-g0")
LIBRARY = "deep_rnn_kernels.so"


class UnknownProcessorError(ValueError):
    """The compiler does not know a processor by that name."""


def command() -> list[str]:
    """The compiler: ``CXX``, or ``c++``."""
    return shlex.split(os.environ.get("CXX", "")) or ["c++"]


def run(arguments: list[str]) -> str:
    """What the compiler prints when called so.

    Raises:
        OSError: there is none.
        RuntimeError: it failed; the message is what it said.
    """
    compiler = command()
    try:
        english = os.environ | {"LC_ALL": "C"}
        ended = subprocess.run([*compiler, *arguments], capture_output=True, text=True, env=english)
    except (FileNotFoundError, NotADirectoryError):
        raise OSError(f"there is no C++ compiler {compiler[0]}; CXX names another") from None
    if ended.returncode:
        raise RuntimeError(ended.stderr or f"{compiler[0]} ended with code {ended.returncode}")
    return ended.stdout


def version() -> str:
    """The compiler's own name and version.

    Raises:
        OSError: there is none.
    """
    return next(iter(run(["--version"]).splitlines()), "")


def source_hash() -> str:
    """A name for what the kernels' sources say."""
    parts = [file.name + file.read_text() for file in sorted(SOURCES.iterdir()) if file.suffix in (".h", ".cpp")]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def instructions(march: str) -> frozenset[str]:
    """The instructions that code may use when compiled with ``-march=march``.

    Raises:
        OSError: there is no compiler.
        UnknownProcessorError: it does not know the name.
    """
    try:
        lines = run([f"-march={march}", "-dM", "-E", "-x", "c++", os.devnull]).splitlines()
    except RuntimeError as error:
        listed = re.search(r"valid (?:arguments|target CPU values)\b.*? are: ([^;\n]*)", str(error))
        names = re.findall(r"[\w.+-]+", listed[1]) if listed else []
        said = did_you_mean(march, names) if names else f" ({error_line(str(error))})"
        raise UnknownProcessorError(f"{command()[0]} compiles for no processor {march!r}{said}") from None
    return processor.needed(line.split()[1] for line in lines if line.startswith("#define "))


def error_line(said: str) -> str:
    """The line to show of all that a compiler or loader said."""
    lines = [line for line in said.splitlines() if "error" in line.lower()] or said.splitlines() or [""]
    return lines[-1].strip()


@contextmanager
def announced(folder: Path) -> Iterator[None]:
    """Tell on stderr what takes so long, and how long it took."""
    print(f"compiling the fused kernels into {folder} (once, about a minute) ...", file=sys.stderr, flush=True)
    started = time.monotonic()
    yield
    print(f"compiled the fused kernels in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def compile_into(folder: Path, march: str) -> None:
    """Make ``folder/LIBRARY`` for a processor, in one piece or not at all.

    Raises:
        OSError: there is no compiler, or no room.
        RuntimeError: it failed.
    """
    with tempfile.TemporaryDirectory(prefix=".objects-", dir=folder) as objects:
        compile_all = functools.partial(compile_one, Path(objects), march)
        most = os.environ.get("MAX_JOBS", "")  # as torch's extension builder reads it
        pool = ThreadPoolExecutor(max(1, int(most)) if most.isdecimal() else os.cpu_count())
        try:
            made = list(pool.map(compile_all, sorted(SOURCES.glob("*.cpp"))))
        finally:
            pool.shutdown(cancel_futures=True)
        library = Path(objects) / LIBRARY
        run(["-shared", "-fopenmp", *made, f"-L{torch_folder() / 'lib'}", "-lc10", "-ltorch_cpu", "-o", str(library)])
        library.replace(folder / LIBRARY)


def compile_one(folder: Path, march: str, source: Path) -> str:
    """Compile one source; returns the object file."""
    made = folder / f"{source.stem}.o"
    include = torch_folder() / "include"
    system = [include, include / "torch/csrc/api/include", sysconfig.get_paths()["include"]]
    headers = [word for path in system for word in ("-isystem", str(path))]
    run(["-fPIC", *FLAGS, f"-march={march}", *headers, "-c", str(source), "-o", str(made)])
    return str(made)


def torch_folder() -> Path:
    """Where torch keeps its headers and libraries."""
    return Path(torch.__file__).parent

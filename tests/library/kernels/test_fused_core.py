"""The kernel core without torch: under the compiler's sanitizers, and on other vectors than this machine's."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from deep_rnn.kernels import build, compiler, processor

DRIVER = Path(__file__).with_name("core_driver.cpp")
CHECKS = [("address,undefined", "native", 80, 1), ("thread", "native", 30, 2)]  # each with problems of its own
if platform.machine() == "x86_64":
    CHECKS.append(("address", "x86-64-v3", 80, 3))  # AVX2: no masked loads for a fault to hide in


ARM = "aarch64-linux-gnu"
CORE = tuple(str(compiler.SOURCES / name) for name in ("core_float.cpp", "core_double.cpp"))


def run_driver(
    folder: Path,
    *flags: str,
    rounds: int,
    seed: int = 1,
    cxx: str = "c++",
    under: tuple[str, ...] = (),
    core: tuple[str, ...] = CORE,
) -> subprocess.CompletedProcess[str]:
    """Compile the driver with the core and run it, perhaps under an emulator."""
    program = str(folder / "driver")
    sources = [f"-I{compiler.SOURCES}", str(DRIVER), *core]
    subprocess.run([cxx, "-std=c++20", "-pthread", *flags, *sources, "-o", program], check=True)
    return subprocess.run([*under, program, str(rounds), str(seed)], capture_output=True, text=True)


def test_the_core_includes_no_torch_header() -> None:
    command = ["c++", "-std=c++20", "-MM", f"-I{compiler.SOURCES}", str(compiler.SOURCES / "core_float.cpp")]
    needed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "cells.h" in needed
    assert "torch" not in needed.replace(str(compiler.SOURCES), "")


@pytest.mark.slow
@pytest.mark.timeout(900)  # most of it the compiler's
@pytest.mark.parametrize(("sanitizer", "target", "rounds", "seed"), CHECKS)
def test_random_problems_run_clean_and_right_under_sanitizers(
    tmp_path: Path, sanitizer: str, target: str, rounds: int, seed: int
) -> None:
    if missing := compiler.instructions(target) - processor.instructions():
        pytest.skip(f"this processor has no {', '.join(sorted(missing))}")
    flags = ("-O1", "-g1", f"-march={target}", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all")
    ended = run_driver(tmp_path, *flags, rounds=rounds, seed=seed)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_random_problems_equal_the_equations_in_the_library_itself(tmp_path: Path) -> None:
    assert build.load() is None
    library = next(path for path in torch.ops.loaded_libraries if path.endswith(compiler.LIBRARY))
    libraries = str(compiler.torch_folder() / "lib")
    core = (library, f"-L{libraries}", "-lc10", "-ltorch_cpu", "-Wl,--disable-new-dtags", f"-Wl,-rpath,{libraries}")
    ended = run_driver(tmp_path, "-O2", "-march=native", rounds=400, core=core)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_narrowest_vectors_equal_the_equations(tmp_path: Path) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("x86-64 only")
    ended = run_driver(tmp_path, "-O1", "-march=x86-64-v2", rounds=200, seed=4)  # SSE4
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.slow
@pytest.mark.timeout(1800)  # an emulator's
def test_neon_equals_the_equations(tmp_path: Path) -> None:
    cxx, emulator = f"{ARM}-g++", shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if not (shutil.which(cxx) and emulator):
        pytest.skip(f"needs {cxx} and qemu-aarch64, of Debian's packages g++-{ARM} and qemu-user")
    root = os.environ.get("QEMU_LD_PREFIX", f"/usr/{ARM}")
    ended = run_driver(tmp_path, "-O1", rounds=60, seed=5, cxx=cxx, under=(emulator, "-L", root))
    assert ended.returncode == 0, ended.stdout + ended.stderr

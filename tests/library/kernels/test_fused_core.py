"""The kernel core without torch: under the compiler's sanitizers, and on other vectors than this machine's."""

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from deep_rnn.kernels import compiler, processor

DRIVER = Path(__file__).with_name("core_driver.cpp")
CHECKS = [("address,undefined", "native"), ("thread", "native")]
if platform.machine() == "x86_64":
    CHECKS.append(("address,undefined", "x86-64-v3"))  # no masked loads for a fault to hide in


ARM = "aarch64-linux-gnu"


def run_driver(
    folder: Path, *flags: str, rounds: int, cxx: str = "c++", under: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Compile the driver with the core and run it, perhaps under an emulator."""
    sources = [DRIVER, compiler.SOURCES / "core_float.cpp", compiler.SOURCES / "core_double.cpp"]
    program = folder / "driver"
    command = [
        cxx,
        "-std=c++20",
        "-g",
        "-pthread",
        *flags,
        f"-I{compiler.SOURCES}",
        *map(str, sources),
        "-o",
        str(program),
    ]
    subprocess.run(command, check=True)
    return subprocess.run([*under, program, str(rounds)], capture_output=True, text=True)


def test_the_core_includes_no_torch_header() -> None:
    command = ["c++", "-std=c++20", "-MM", f"-I{compiler.SOURCES}", str(compiler.SOURCES / "core_float.cpp")]
    needed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "cells.h" in needed
    assert "torch" not in needed.replace(str(compiler.SOURCES), "")


@pytest.mark.slow
@pytest.mark.timeout(900)  # most of it the compiler's
@pytest.mark.parametrize(("sanitizer", "target"), CHECKS)
def test_random_problems_run_clean_and_right_under_sanitizers(tmp_path: Path, sanitizer: str, target: str) -> None:
    flags = ("-O1", f"-march={target}", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all")
    ended = run_driver(tmp_path, *flags, rounds=200)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_thousand_random_problems_equal_the_equations(tmp_path: Path) -> None:
    ended = run_driver(tmp_path, "-O3", "-march=native", rounds=1000)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("target", ["x86-64-v3", "x86-64-v2"])  # AVX2, SSE; AVX-512 is where native has it
def test_narrower_vectors_equal_the_equations(tmp_path: Path, target: str) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("x86-64 only")
    if missing := compiler.instructions(target) - processor.instructions():
        pytest.skip(f"this processor has no {', '.join(sorted(missing))}")
    ended = run_driver(tmp_path, "-O3", f"-march={target}", rounds=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.slow
@pytest.mark.timeout(1800)  # an emulator's
def test_neon_equals_the_equations(tmp_path: Path) -> None:
    cxx, emulator = f"{ARM}-g++", shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if not (shutil.which(cxx) and emulator):
        pytest.skip(f"needs {cxx} and qemu-aarch64, of Debian's packages g++-{ARM} and qemu-user")
    root = os.environ.get("QEMU_LD_PREFIX", f"/usr/{ARM}")
    ended = run_driver(tmp_path, "-O3", rounds=60, cxx=cxx, under=(emulator, "-L", root))
    assert ended.returncode == 0, ended.stdout + ended.stderr

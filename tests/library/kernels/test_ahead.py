"""Kernels built ahead: they run where there is no compiler, and never where they do not fit."""

import dataclasses
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import environment

from deep_rnn import build as door
from deep_rnn.kernels import ahead, build, compiler, processor

FITTING = ahead.Note("x86-64-v2", platform.machine(), str(torch.__version__), compiler.source_hash(), ["sse42"])

USE = """
import torch
from deep_rnn import DeepRNN
torch.manual_seed(0)
rnn = DeepRNN(5, 20, 2, cell="gru")
x = torch.randn(7, 3, 5)
print(rnn.explain(x))
for backend in ("fused", "loop"):
    rnn.backend = backend
    rnn.zero_grad()
    output, state = rnn(x)
    output.pow(2).sum().backward()
    if backend == "fused":
        found = [output, *(p.grad.clone() for p in rnn.parameters())]
torch.testing.assert_close(found, [output, *(p.grad for p in rnn.parameters())], rtol=1e-4, atol=1e-5)
"""


def use(folder: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run fused kernels against the loop where there is no compiler and nothing in the cache."""
    nothing = {"CXX": str(tmp_path / "no-compiler"), "TORCH_EXTENSIONS_DIR": str(tmp_path / "none")}
    env = environment(tmp_path) | nothing | {"XDG_CACHE_HOME": str(tmp_path / "none"), "DEEP_RNN_KERNELS": str(folder)}
    return subprocess.run([sys.executable, "-c", USE], capture_output=True, text=True, env=env, timeout=120)


def noted(folder: Path, name: str, **changes: object) -> Path:
    """A build that consists of its note alone."""
    (folder / name).mkdir(parents=True)
    (folder / name / ahead.NOTE).write_text(json.dumps(dataclasses.asdict(FITTING) | changes))
    return folder / name


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """What is loaded of ``DEEP_RNN_KERNELS=tmp_path``, on a processor that has two instructions."""
    libraries: list[Path] = []
    monkeypatch.setattr(torch.ops, "load_library", libraries.append)
    monkeypatch.setattr(processor, "instructions", lambda: frozenset({"sse42", "avx2"}))
    monkeypatch.setenv("DEEP_RNN_KERNELS", str(tmp_path))
    return libraries


@pytest.fixture
def from_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler that takes no time: it hands out what these tests themselves run on."""
    library = build.cache_root() / build.key() / compiler.LIBRARY
    monkeypatch.setattr(compiler, "compile_into", lambda folder, march: shutil.copy(library, folder))


def test_kernels_built_ahead_run_without_a_compiler(tmp_path: Path, from_cache: None) -> None:
    kernels = tmp_path / "kernels"
    assert door.main([str(kernels)]) == 0
    done = use(kernels, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "fused" in done.stdout and not done.stderr
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)  # the compiler's
def test_kernels_compiled_for_a_named_processor_run_without_a_compiler(tmp_path: Path) -> None:
    march = "x86-64-v2" if platform.machine() == "x86_64" else "native"
    command = [sys.executable, "-m", "deep_rnn.build", str(tmp_path / "kernels"), "--processor", march]
    made = subprocess.run(command, capture_output=True, text=True, env=environment(tmp_path))
    assert made.returncode == 0, made.stderr
    assert march in made.stdout and torch.__version__ in made.stdout
    done = use(tmp_path / "kernels", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "fused" in done.stdout and not done.stderr


def test_a_build_for_another_processor_is_refused_in_one_line_before_it_is_loaded(tmp_path: Path) -> None:
    folder = noted(tmp_path / "kernels", "theirs", processor="future", instructions=["sse42", "avx4096", "warp"])
    (folder / compiler.LIBRARY).write_text("no library: loading it would be another error")
    done = use(tmp_path / "kernels", tmp_path)
    refused, without = done.stderr.splitlines()[:2]
    assert "(future: this processor has no avx4096, warp" in refused and "python -m deep_rnn.build" in refused
    assert "there is no C++ compiler" in without  # on to compiling, as ever


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"torch": "1.0"}, f"built for torch 1.0, this is {torch.__version__}"),
        ({"sources": "other"}, "built from another version of deep_rnn"),
        ({"machine": "pdp11"}, f"built for pdp11, this is {platform.machine()}"),
        ({"instructions": list("abcde")}, "this processor has no a, b, c and 2 more"),
        ({"torch": None, "colour": "red"}, "kernels.json is damaged"),
    ],
)
def test_a_build_that_does_not_fit_is_not_loaded_and_one_line_says_why(
    tmp_path: Path, loaded: list[Path], capsys: pytest.CaptureFixture[str], changes: dict[str, object], why: str
) -> None:
    noted(tmp_path, "one", **changes)
    assert not ahead.load() and not loaded
    (line,) = capsys.readouterr().err.splitlines()
    assert why in line and str(tmp_path) in line


def test_a_folder_without_kernels_is_said_to_have_none(
    tmp_path: Path, loaded: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    noted(tmp_path, ".building-x")  # what a build that was killed left
    assert not ahead.load() and not loaded
    assert "(there are none)" in capsys.readouterr().err


def test_of_several_builds_the_one_with_most_of_this_processors_instructions_is_loaded(
    tmp_path: Path, loaded: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    noted(tmp_path, "a", instructions=["sse42"])
    best = noted(tmp_path, "b", instructions=["sse42", "avx2"])
    noted(tmp_path, "c", instructions=["sse42", "avx2", "avx512f"])
    noted(tmp_path, "d", torch="1.0", instructions=["sse42", "avx2"])
    assert ahead.load() and loaded == [best / compiler.LIBRARY]
    assert not capsys.readouterr().err


def test_a_library_that_the_system_refuses_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (noted(tmp_path, "broken", instructions=[]) / compiler.LIBRARY).write_text("no library")
    monkeypatch.setenv("DEEP_RNN_KERNELS", str(tmp_path))
    assert not ahead.load()
    (line,) = capsys.readouterr().err.splitlines()
    assert "broken: " in line and compiler.LIBRARY in line


def test_builds_for_several_processors_lie_side_by_side_and_are_built_once(
    tmp_path: Path, from_cache: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "instructions", lambda march: frozenset({march}))
    first, second = (ahead.build(tmp_path, march)[0] for march in ("one", "two"))
    assert sorted(tmp_path.iterdir()) == sorted([first, second])
    assert sorted(file.name for file in first.iterdir()) == [compiler.LIBRARY, ahead.NOTE]
    monkeypatch.setattr(compiler, "compile_into", lambda folder, march: pytest.fail("compiled again"))
    assert ahead.build(tmp_path, "one")[0] == first


def test_a_build_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path, march: str) -> None:
        (folder / compiler.LIBRARY).touch()
        raise RuntimeError("one\nfatal error: two")

    monkeypatch.setattr(compiler, "compile_into", fail)
    assert door.main([str(tmp_path)]) == 1
    assert not list(tmp_path.iterdir())


def test_builds_can_be_read_by_other_users(tmp_path: Path, from_cache: None) -> None:
    before = os.umask(0o022)
    try:
        folder, _ = ahead.build(tmp_path)
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["kernels", "--processor", "x86-64-v33"], "'x86-64-v33' (did you mean x86-64-v3?)"),
        (["kernels", "--processor", "haswel"], "'haswel' (did you mean haswell?)"),
        ([__file__], "is no folder"),
    ],
)
@pytest.mark.skipif(platform.machine() != "x86_64", reason="names of x86-64's processors")
def test_a_wrong_request_gets_one_line_and_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    line: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert door.main(arguments) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("error: ") and line in said
    assert not (tmp_path / "kernels").exists()


def test_what_this_machine_compiles_for_itself_fits_it() -> None:
    assert compiler.instructions("native") <= processor.instructions()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="levels of x86-64")
def test_the_instructions_of_a_processor_are_known_by_name() -> None:
    assert {"sse42", "pni"} <= compiler.instructions("x86-64-v2") < compiler.instructions("x86-64-v3")
    assert {"avx2", "fma", "bmi2", "abm"} <= compiler.instructions("x86-64-v3") - compiler.instructions("x86-64-v2")
    assert {"avx512f", "avx512vl"} <= compiler.instructions("x86-64-v4") - compiler.instructions("x86-64-v3")
    assert compiler.instructions("x86-64") == {"sse", "sse2"}


def test_arms_instructions_are_known_by_linux_names() -> None:
    macros = ["__ARM_FEATURE_SVE", "__ARM_FEATURE_DOTPROD", "__ARM_FEATURE_CLZ", "__ARM_NEON"]
    assert processor.needed(macros) == {"sve", "asimddp"}

"""The benchmark counts right, and its command line leaves what it promises: figures, pictures, tables."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import environment

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "scripts"))

import benchmark as command  # noqa: E402
from benchmarking import counting, cuda, loss, machine, scaling, timing  # noqa: E402
from benchmarking.cases import TABLE, Case, case, variable_lengths  # noqa: E402
from benchmarking.section import Plan  # noqa: E402
from benchmarking.stacks import TORCH_LAYERS  # noqa: E402

from deep_rnn.kernels import compiled  # noqa: E402

PNG = b"\x89PNG"


def benchmark(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``python scripts/benchmark.py`` as a user types it, figures in ``folder``."""
    line = [sys.executable, str(ROOT / "scripts" / "benchmark.py"), "--out", str(folder), *arguments]
    env = environment(folder) | {"CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(line, capture_output=True, text=True, env=env, cwd=folder, timeout=240)


def figures(folder: Path, name: str) -> list[dict]:
    """The rows that were saved, after a look at the picture beside them."""
    assert (folder / f"{name}.png").read_bytes().startswith(PNG)
    saved = json.loads((folder / f"{name}.json").read_text())
    assert saved["machine"]["threads"] == 1
    assert saved["machine"]["gflop_per_second"] > 0
    assert saved["rows"]
    return saved["rows"]


# --- counting, against counts by hand ---------------------------------------------------------------------------------


def test_operations_of_a_small_gru_are_those_counted_by_hand():
    one = Case("gru", (2,), time=3, batch=4, input_size=5, what="forward")
    # Each of 12 steps: 3 gates of 2 units read 5 inputs and 2 units; a multiplication and an addition each.
    assert counting.operations(one) == 12 * 3 * 2 * 7 * 2
    assert counting.operations(one._replace(what="forward+backward")) == 3 * counting.operations(one)


def test_operations_follow_widths_directions_and_heads():
    one = Case("lstm", (2, 3), time=1, batch=1, input_size=4, what="forward", both_ways=True)
    first, second = 2 * 4 * 2 * (4 + 2) * 2, 2 * 4 * 3 * (2 * 2 + 3) * 2
    assert counting.operations(one) == first + second
    head = 2 * 6  # one output of two times three units
    assert counting.operations(one._replace(what="training step")) == 3 * (first + second + head)


def test_bytes_of_a_small_rnn_are_those_counted_by_hand():
    one = Case("rnn", (2,), time=3, batch=4, input_size=5, what="forward")
    weights = 2 * 5 + 2 * 2 + 2 + 2
    assert counting.bytes_moved(one) == 4 * (12 * 5 + 12 * 2 + weights)
    assert counting.bytes_moved(one._replace(what="forward+backward")) == 3 * counting.bytes_moved(one)


def test_a_training_step_moves_the_embedding_and_what_adam_keeps():
    one = Case("rnn", (2,), time=3, batch=4, input_size=5, what="forward+backward")
    step = one._replace(what="training step")
    trained = 10_000 * 5 + (2 * 5 + 2 * 2 + 2 + 2) + (2 + 1)
    assert counting.bytes_moved(step) - counting.bytes_moved(one) == 4 * (12 * 5 + 10_000 * 5 + 7 * trained)


def test_parameters_are_counted_as_torch_nn_has_them():
    for cell, make in TORCH_LAYERS.items():
        one = Case(cell, (7, 7), 3, 2, 5, both_ways=True)
        theirs = make(5, 7, 2, bidirectional=True)
        assert sum(counting.layer_parameters(one)) == sum(weight.numel() for weight in theirs.parameters())


def test_padding_is_not_counted():
    one = variable_lengths("gru")
    lengths = one.lengths()
    assert lengths.min() >= 200 and lengths.max() <= 230
    assert one.tokens() == lengths.sum() < one.time * one.batch
    whole = counting.operations(one._replace(ragged=False))
    assert counting.operations(one) * one.time * one.batch == whole * one.tokens()


def test_the_limit_is_the_one_that_binds():
    limits = machine.Limits(operations=1e9, bandwidth=1e6)
    assert limits.milliseconds(10**9, 10) == pytest.approx(1000)
    assert limits.milliseconds(10, 10**6) == pytest.approx(1000)


def test_the_sizes_with_a_promised_speed_are_in_the_quick_list():
    assert [case("gru", size, "forward").shape for size in TABLE] == [
        "5x2x100x32",
        "64x2x100x32",
        "128x3x100x32",
        "512x3x35x32",
    ]


# --- clocks -----------------------------------------------------------------------------------------------------------


def test_calls_take_turns_and_the_warm_up_is_not_timed():
    seen: list[str] = []
    slow = timing.BURST  # long enough for one call a turn
    calls = {name: lambda name=name: (seen.append(name), timing.time.sleep(slow))[0] for name in "ab"}
    times = timing.interleave(calls, seconds=0)
    assert seen == ["a"] * timing.WARM_UP + ["b"] * timing.WARM_UP + ["a", "b"] * timing.LEAST_TURNS
    assert times["a"].calls == timing.LEAST_TURNS
    assert times["a"].low <= times["a"].median <= times["a"].high


def test_a_straight_line_is_known_as_one():
    found = scaling.fit([(amount, 0.5 + 0.25 * amount) for amount in (1, 2, 4, 8, 16, 1000, 2000, 4000)])
    assert found["slope"] == pytest.approx(0.25)
    assert found["r_squared"] == pytest.approx(1)
    squared = scaling.fit([(amount, amount**2) for amount in (1, 2, 4, 8)])
    assert squared["exponent"] == pytest.approx(2)


# --- the command ------------------------------------------------------------------------------------------------------


ONE = ("--sizes", "4x2x5x3", "--cells", "gru", "--seconds", "0.01")


def check_row(row: dict) -> None:
    """What every row of ``sizes`` says hangs together."""
    times = row["milliseconds"]
    assert row["ratios"]["auto"] == pytest.approx(times["torch.nn"]["median"] / times["auto"]["median"])
    assert row["share_of_limit"]["auto"] == pytest.approx(row["limit_milliseconds"] / times["auto"]["median"])
    assert row["tokens_per_second"]["auto"] == pytest.approx(15e3 / times["auto"]["median"])


def test_a_quick_run_leaves_ratios_and_a_limit_for_every_row(tmp_path):
    done = benchmark(tmp_path, "--quick", *ONE)
    assert done.returncode == 0, done.stderr
    rows = figures(tmp_path, "sizes-quick")
    assert [row["what"] for row in rows] == ["forward", "forward+backward", "training step"]
    for row in rows:
        check_row(row)
    assert "| gru | 4x2x5x3 | training step |" in done.stdout


def test_layers_of_torch_race_their_doubles_on_our_kernels(tmp_path):
    done = benchmark(tmp_path, "--quick", "--only", "drop_in", "--seconds", "0.01")
    assert done.returncode == 0, done.stderr
    rows = figures(tmp_path, "drop_in-quick")
    assert {row["task"] for row in rows} == {"forward", "forward+backward"} and all(row["ratio"] > 0 for row in rows)
    assert "| translation encoder | LSTM 500 -> 250 num_layers=2" in done.stdout


@pytest.mark.slow  # torch.compile compiles
def test_a_usual_run_has_every_backend_torch_compile_and_memory(tmp_path):
    done = benchmark(tmp_path, *ONE, "--only", "sizes")
    assert done.returncode == 0, done.stderr
    for row in figures(tmp_path, "sizes"):
        check_row(row)
        assert {"auto", "native", "loop", "torch.compile"} <= row["ratios"].keys()
        assert row["auto"] in row["ratios"]
        weighed = {"torch.nn", "auto"} if row["what"] == "forward" else row["milliseconds"].keys()
        assert row["peak_mebibytes"].keys() == set(weighed)
        if Path("/proc/self/status").exists():
            assert all(peak is not None and peak >= 0 for peak in row["peak_mebibytes"].values())


def test_the_other_sections_leave_figures_pictures_and_tables(tmp_path):
    done = benchmark(tmp_path, "--only", "options,scaling,models", *ONE)
    assert done.returncode == 0, done.stderr
    options = figures(tmp_path, "options")
    assert [row["cost"] for row in options if row["option"] == "plain"] == [1]
    costs = {row["option"]: row["operations"] for row in options}
    assert costs["highway"] > costs["plain"] == costs["zoneout"] > costs["lengths"] > 0
    assert {row["axis"]: len(row["points"]) for row in figures(tmp_path, "scaling")} == {"T": 6, "B": 6}
    (models,) = figures(tmp_path, "models")
    assert models["models"] == 16 and all(ratio > 0 for ratio in models["ratios"].values())
    shown = benchmark(tmp_path, "--show")
    assert shown.returncode == 0, shown.stderr
    for table in ("| gru | 4x2x5x3 | plain | 1.00x |", "| gru | 4x2x5x3 | T |", "| gru | 4x2x5x3 | 16 |"):
        assert table in shown.stdout and table in done.stdout


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--only", "size"], "no such section"),
        (["--sizes", "64x2x100"], "64x2x100 is not units x layers x steps x sequences"),
        (["--sizes", "64x2x0x3"], "every number is at least 1"),
        (["--cells", "gruu"], "gruu is not one of rnn, lstm, gru"),
        (["--show"], "nothing was measured"),
    ],
)
def test_a_wrong_request_is_answered_in_one_line_and_measures_nothing(
    tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--out", str(tmp_path), *arguments])
    with pytest.raises(SystemExit) as left:
        sys.exit(command.main())
    assert left.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


# --- compiled chunks on a GPU -----------------------------------------------------------------------------------------


def test_the_race_for_a_gpu_runs_and_tells_who_is_faster(monkeypatch, tmp_path):
    monkeypatch.setattr(compiled, "COMPILER", {"backend": "aot_eager"})
    plan = Plan("usual", 0.01, ("gru",), ((4, 2, 5, 3),))
    rows = list(cuda.measure(plan, device="cpu", cells=("mgu", "gru")))
    assert [row["what"] for row in rows] == ["forward", "forward+backward"] * 2
    for row in rows:
        times = row["milliseconds"]
        assert times.keys() == {"loop", "compiled"} | ({"native"} if row["cell"] == "gru" else set())
        assert row["ratios"]["compiled"] == pytest.approx(times["loop"]["median"] / times["compiled"]["median"])
    assert "| mgu | 4x2x5x3 | forward |" in cuda.SECTION.table(rows)
    cuda.draw(rows, tmp_path / "cuda.png")
    assert (tmp_path / "cuda.png").read_bytes().startswith(PNG)


def test_the_loss_is_raced_against_torchs_own(monkeypatch, tmp_path):
    monkeypatch.setattr(loss, "SIZES", {"small": (40, 3, 50)})
    rows = list(loss.measure(Plan("usual", 0.01, ("gru",), ())))
    assert [row["task"] for row in rows] == ["forward", "forward+backward"]
    for row in rows:
        times = row["milliseconds"]
        assert list(times)[:2] == ["fused", "torch"]
        assert row["ratios"]["torch"] == pytest.approx(times["torch"]["median"] / times["fused"]["median"])
        assert 0 < row["share_of_product_rate"] < 1
    assert "| small | 40x3x50 | forward |" in loss.SECTION.table(rows)
    loss.draw(rows, tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(PNG)


def test_without_a_gpu_its_section_says_so(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--out", str(tmp_path), "--only", "cuda", "--seconds", "0.01"])
    assert command.main() == 2
    assert capsys.readouterr().err.splitlines()[-1] == "--only=cuda: needs an NVIDIA GPU"
    assert list(tmp_path.iterdir()) == []

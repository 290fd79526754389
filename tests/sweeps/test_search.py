"""A search with Optuna: its study is stopped and continued, shared by workers, and survives failed trials."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from helpers import environment
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from src.errors import RequestError
from src.sweeps.plan import Job
from src.sweeps.search import distribution, open_study, tell

Typed = Callable[..., tuple[int, str, str]]  # exit code, standard output, standard error


@pytest.fixture
def small(reviews: Path, tmp_path: Path) -> list[str]:
    """A search whose trials take a second."""
    fixed = ["width=4", "batch_size=16", "epochs=1", "logger=none", "model=rnn,gru", "depth=range(1,3)"]
    storage = f"sweep.search.storage=sqlite:///{tmp_path}/study.db"
    return ["-m", "sweep=optuna", "data=text_file", f"data.path={reviews}", *fixed, storage]


def study(tmp_path: Path) -> optuna.Study:
    return optuna.load_study(study_name="optuna", storage=f"sqlite:///{tmp_path}/study.db")


def test_a_study_goes_on_where_it_was_and_counts_all_its_trials(typed: Typed, small: list[str], tmp_path: Path) -> None:
    assert typed("train", *small, "sweep.search.trials=2")[0] == 0
    first = study(tmp_path).trials
    assert [trial.state for trial in first] == [TrialState.COMPLETE] * 2
    code, _, err = typed("train", *small, "sweep.search.trials=2")
    assert code == 0 and len(study(tmp_path).trials) == 2 and "study optuna: 2 trials, best" in err
    assert typed("train", *small, "sweep.search.trials=3")[0] == 0
    assert len(study(tmp_path).trials) == 3 and study(tmp_path).trials[:2] == first
    assert len(list((tmp_path / "outputs/sweeps/optuna").glob("*/DONE"))) == 3


def test_a_failed_trial_ends_no_study_and_is_tried_again_by_the_same_command(
    typed: Typed, small: list[str], tmp_path: Path
) -> None:
    explode = ["model=rnn", "model.options.activation=relu", "optimizer=sgd", "clip=null", "lr=choice(1e20,1e21)"]
    code, _, err = typed("train", *small, *explode, "sweep.search.trials=2")
    assert code == 1 and "2 of 2 runs failed" in err
    assert [trial.state for trial in study(tmp_path).trials] == [TrialState.FAIL] * 2
    code, _, err = typed("train", *small, *explode, "sweep.search.trials=2", "sweep.retry_failed=false")
    assert code == 0 and len(study(tmp_path).trials) == 2
    assert typed("train", *small, *explode, "sweep.search.trials=2")[0] == 1
    assert [trial.user_attrs.get("retry of") for trial in study(tmp_path).trials] == [None, None, 0, 1]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_workers_share_a_study_and_a_killed_one_s_trial_is_gone_on_with(small: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "src.train", *small, "sweep.search.trials=6"]

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(command, cwd=tmp_path, env=environment(tmp_path), stderr=subprocess.PIPE, text=True)

    killed = subprocess.Popen([*command, "epochs=100000"], cwd=tmp_path, env=environment(tmp_path))
    until = time.monotonic() + 300
    while not list((tmp_path / "outputs/sweeps/optuna").glob("*/last.ckpt")):
        assert time.monotonic() < until and killed.poll() is None
        time.sleep(0.05)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    (run,) = (tmp_path / "outputs/sweeps/optuna").glob("*/last.ckpt")
    (run.parent / "PRUNED").write_text("enough\n")  # else it would go on for ever

    workers = [start(), start()]
    said = [worker.communicate(timeout=600)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    trials = study(tmp_path).trials
    assert 6 <= len(trials) <= 7  # both may ask for the last one at the same moment
    assert all(trial.state in (TrialState.COMPLETE, TrialState.FAIL) for trial in trials)
    folders = [trial.user_attrs["overrides"] for trial in trials]
    assert all(folders)
    assert all(" new" in text for text in said)  # each of them did some


def test_two_workers_may_tell_of_one_trial_at_the_same_moment(tmp_path: Path) -> None:
    mine, other = (open_study(f"sqlite:///{tmp_path}/study.db", tmp_path, "s", "max") for _ in range(2))
    number = mine.ask().number

    class Slow(optuna.samplers.RandomSampler):
        """Lets the other worker be quicker."""

        def after_trial(self, *_):
            other.tell(number, state=TrialState.FAIL)

    mine.sampler = Slow()
    (tmp_path / "FAILED").write_text("reason: made to\n")
    tell(mine, number, Job((), None, tmp_path))
    assert [trial.state for trial in mine.trials] == [TrialState.FAIL]


def test_what_is_varied_becomes_what_optuna_draws_from() -> None:
    def drawn(text: str) -> object:
        return distribution(OverridesParser.create().parse_override(f"x={text}"))

    assert drawn("choice(16,32,64)") == CategoricalDistribution(["16", "32", "64"])
    assert drawn("none,residual") == CategoricalDistribution(["none", "residual"])
    assert drawn("range(1,5)") == IntDistribution(1, 4)
    assert drawn("interval(0,0.5)") == FloatDistribution(0.0, 0.5)
    assert drawn("tag(log,interval(1e-4,1e-1))") == FloatDistribution(1e-4, 1e-1, log=True)
    assert drawn("tag(log,int(interval(8,256)))") == IntDistribution(8, 256, log=True)


def test_a_storage_out_of_reach_is_a_wrong_request(tmp_path: Path) -> None:
    for storage in ("sqlite:////nowhere/at/all/study.db", "nowhere/at/all/study.journal", "odd://x"):
        with pytest.raises(RequestError, match=r"^sweep.search.storage="):
            open_study(storage, tmp_path, "s", "max")

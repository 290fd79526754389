"""A search with Optuna: its study is stopped and continued, shared by workers, and survives failed trials."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from sweep_helpers import trouble_environment, wait_for

from src.errors import RequestError
from src.sweeps.plan import Job
from src.sweeps.search import check_same, distribution, open_study, tell

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


def test_a_study_of_another_search_is_refused_in_one_line_and_left_as_it_was(
    typed: Typed, small: list[str], tmp_path: Path
) -> None:
    assert typed("train", *small, "sweep.search.trials=1")[0] == 0
    before = study(tmp_path).trials
    for other in ("width=8", "depth=range(1,4)"):
        code, _, err = typed("train", *small, "sweep.search.trials=2", other)
        assert code == 2 and len(err.splitlines()) == 1, err
        assert err.startswith("error: optuna: this study is of another search") and "sweep.name=" in err
        assert study(tmp_path).trials == before
    same = ["sweep.search.trials=2", "sweep.search.at_once=2", "sweep.prune=null", "trainer.progress=false"]
    assert typed("train", *small, *same)[0] == 0 and len(study(tmp_path).trials) == 2


def test_a_study_with_another_direction_is_refused(tmp_path: Path) -> None:
    old = open_study(f"sqlite:///{tmp_path}/study.db", tmp_path, "s", "max")  # of before a study noted its search
    with pytest.raises(RequestError, match=r"^s: this study is of another search"):
        check_same(old, "min", "a")
    check_same(old, "max", "a")
    check_same(open_study(f"sqlite:///{tmp_path}/study.db", tmp_path, "s", "max"), "max", "a")
    with pytest.raises(RequestError, match=r"^s: this study is of another search"):
        check_same(old, "max", "b")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_workers_share_a_study_and_a_killed_one_s_trial_is_gone_on_with(small: list[str], tmp_path: Path) -> None:
    custom = ["model=custom", "model.cell=trouble_cells.Held", "lr=interval(0.001,0.1)", "epochs=2"]
    command = [sys.executable, "-m", "src.train", *small, *custom, "sweep.search.trials=6"]
    env = trouble_environment(tmp_path)

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True)

    (tmp_path / "trouble/hold").touch()
    killed = subprocess.Popen(command, cwd=tmp_path, env=env)
    wait_for((tmp_path / "trouble/pid").exists, killed)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    (cut_off,) = (tmp_path / "outputs/sweeps/optuna").glob("*/last.ckpt")

    workers = [start(), start()]
    said = [worker.communicate(timeout=600)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    trials = study(tmp_path).trials
    assert 6 <= len(trials) <= 7  # both may ask for the last one at the same moment
    assert all(trial.state in (TrialState.COMPLETE, TrialState.FAIL) for trial in trials)
    assert (cut_off.parent / "DONE").exists()
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

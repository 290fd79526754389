"""A search: Optuna proposes runs, they are made like those of any sweep, and their best values are told back.

Workers share the study's storage and the sweep's folder: start the same command on several machines, and they work on
one study. Hydra's own sweeper for Optuna needs an Optuna below 3, and gives a trial no folder by which a second start
could find it again.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from omegaconf import DictConfig

from src.errors import RequestError
from src.sweeps.plan import Job, identity, label
from src.tracking.console import say
from src.tracking.run_folder import is_held

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution

OVERRIDES = "overrides"
RETRY_OF = "retry of"
"""What a trial notes of itself."""
SEARCH = "search"
"""What a study notes of itself: see `fingerprint`."""


class Sweeper(Protocol):
    """What a search needs of whatever makes its runs."""

    composed: DictConfig
    """What was typed, composed."""
    folder: Path

    @property
    def stopped(self) -> bool:
        """Whether no other run may begin."""

    def job(self, overrides: Sequence[str]) -> Job:
        """The run of these overrides."""

    def run(self, jobs: Sequence[Job]) -> None:
        """Make what is left of these runs."""


def search(sweeper: Sweeper, varied: Sequence[Override]) -> list[Job]:
    """Make trials until the study has as many as were asked for, and return the jobs that this process made.

    Trials that were cut off are gone on with first, and failed ones tried again, in the folders that they have.

    Raises:
        RequestError: Optuna is missing, its storage cannot be used or has another search under this name, or nothing
            is left to be searched.
    """
    if find_spec("optuna") is None:
        raise RequestError("sweep=optuna needs Optuna: pip install -e '.[optuna]'")
    options, name = sweeper.composed.sweep.search, sweeper.composed.sweep.name
    space = {o.get_key_element(): distribution(o) for o in varied if o.is_sweep_override()}
    if not space:
        raise RequestError("nothing to search: vary something, such as lr=tag(log,interval(1e-4,1e-1))")
    fixed = [f"{o.get_key_element()}={o.get_value_element_as_str()}" for o in varied if not o.is_sweep_override()]
    mode = sweeper.composed.trainer.mode
    study = open_study(options.storage, sweeper.folder, name or "sweep", mode)
    check_same(study, mode, fingerprint(sweeper, space, fixed))
    made: dict[Path, Job] = {}
    trials = left_over(study, sweeper, sweeper.composed.sweep.retry_failed)
    while True:
        wanted = options.trials - sum(RETRY_OF not in trial.user_attrs for trial in study.trials)
        trials += [ask(study, space, fixed) for _ in range(min(options.at_once - len(trials), wanted))]
        if not trials:
            break
        batch, trials = trials[: options.at_once], trials[options.at_once :]
        jobs = {number: sweeper.job(overrides) for number, overrides in batch}
        made |= {job.folder: job for job in jobs.values()}
        sweeper.run(list(jobs.values()))
        for number, job in jobs.items():
            tell(study, number, job)
        if sweeper.stopped:
            break
    finished = [trial for trial in study.trials if trial.value is not None]
    if finished:
        best = study.best_trial
        by = label(overrides_of(best))
        say(f"study {study.study_name}: {len(study.trials)} trials, best {best.value:.4f} by {by}")
    return list(made.values())


def open_study(storage: str, folder: Path, name: str, mode: str) -> "Study":
    """Open the study, or take part in it.

    Raises:
        RequestError: the storage cannot be used.
    """
    import optuna
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        store = RDBStorage(storage) if "://" in storage else JournalStorage(JournalFileBackend(str(folder / storage)))
        return optuna.create_study(
            storage=store,
            study_name=name,
            load_if_exists=True,
            direction="maximize" if mode == "max" else "minimize",
            sampler=optuna.samplers.TPESampler(constant_liar=True),  # mind what other workers are trying
        )
    except Exception as error:
        raise RequestError(f"sweep.search.storage={storage}: {' '.join(str(error).split())[:200]}") from error


def check_same(study: "Study", mode: str, asked: str) -> None:
    """See that a study is of the search that was asked for; one of before such notes is taken as that.

    Raises:
        RequestError: it is of another, whose values say nothing about this one's.
    """
    kept = study.user_attrs.get(SEARCH)
    if kept not in (None, asked) or study.direction.name.lower()[:3] != mode:
        raise RequestError(
            f"{study.study_name}: this study is of another search (other settings, or another range)"
            "; give sweep.name= for a new one"
        )
    if kept is None:
        study.set_user_attr(SEARCH, asked)


def fingerprint(sweeper: Sweeper, space: Mapping[str, Any], fixed: Sequence[str]) -> str:
    """A hash of what is searched, and of all else that makes up a run: how many trials are wanted is no part of it."""
    from optuna.distributions import CategoricalDistribution, distribution_to_json

    first = [
        f"{key}={drawn.choices[0] if isinstance(drawn, CategoricalDistribution) else drawn.low}"
        for key, drawn in space.items()
    ]
    config = sweeper.job([*first, *fixed]).config
    ranges = {key: distribution_to_json(drawn) for key, drawn in space.items()}
    what = [identity(config) if config else sorted(fixed), ranges]  # that one point may be refused, and others not
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def ask(study: "Study", space: Mapping[str, "BaseDistribution"], fixed: Sequence[str]) -> tuple[int, list[str]]:
    """A new trial's number and overrides."""
    trial = study.ask(dict(space))
    overrides = [*(f"{key}={value}" for key, value in trial.params.items()), *fixed]
    trial.set_user_attr(OVERRIDES, overrides)
    return trial.number, overrides


def left_over(study: "Study", sweeper: Sweeper, retry_failed: bool) -> list[tuple[int, list[str]]]:
    """Trials that no process is working on any more, and failed ones as new trials of the same runs."""
    from optuna.trial import TrialState

    found = []
    trials = study.trials
    retried = {trial.user_attrs.get(RETRY_OF) for trial in trials}
    for trial in trials:
        overrides = overrides_of(trial)
        if trial.state is TrialState.RUNNING and overrides and not is_held(sweeper.job(overrides).folder):
            found.append((trial.number, overrides))
        elif trial.state is TrialState.FAIL and overrides and retry_failed and trial.number not in retried:
            notes = {OVERRIDES: overrides, RETRY_OF: trial.number}
            study.enqueue_trial(trial.params, user_attrs=notes)
            again = study.ask(trial.distributions)
            found.append((again.number, overrides_of(again)))
    return found


def overrides_of(trial: Any) -> list[str]:
    """What a trial was asked to run."""
    return list(trial.user_attrs.get(OVERRIDES, []))


def tell(study: "Study", number: int, job: Job) -> None:
    """Tell the study what came of a trial; nothing where another process is at it, or it was cut off."""
    from optuna.exceptions import UpdateFinishedTrialError
    from optuna.trial import TrialState

    value = best_value(job) if job.state in ("DONE", "PRUNED") else None
    with suppress(UpdateFinishedTrialError):  # another worker told it at this moment, from the same folder
        if value is not None:
            study.tell(number, value, skip_if_finished=True)
        elif job.state in ("DONE", "PRUNED", "FAILED"):
            study.tell(number, state=TrialState.FAIL, skip_if_finished=True)


def best_value(job: Job) -> float | None:
    """The best value of the monitored metric in a run's summary; none where there is none."""
    assert job.config is not None
    try:
        best = json.loads((job.folder / "summary.json").read_text(encoding="utf-8"))["best"]
    except (OSError, ValueError, KeyError):
        return None
    return best.get(job.config.trainer.monitor)


def distribution(override: Override) -> "BaseDistribution":
    """What Optuna draws from, of Hydra's ``choice``, ``range`` and ``interval``; ``tag(log, …)`` on a log scale."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value: Any = override.value()
    log = "log" in getattr(value, "tags", ())
    if isinstance(value, IntervalSweep):
        assert value.start is not None and value.end is not None
        if isinstance(value.start, int) and isinstance(value.end, int) and log:
            return IntDistribution(value.start, value.end, log=True)
        return FloatDistribution(float(value.start), float(value.end), log=log)
    if isinstance(value, RangeSweep) and all(isinstance(part, int) for part in (value.start, value.stop, value.step)):
        low, high = int(value.start or 0), int(value.stop or 0)
        return IntDistribution(low, high - 1, step=int(value.step))  # Hydra's range ends before its stop, as Python's
    assert isinstance(value, ChoiceSweep | RangeSweep)
    return CategoricalDistribution(list(override.sweep_string_iterator()))

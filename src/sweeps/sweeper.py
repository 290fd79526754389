"""The sweep itself: which runs, what is left of them, and handing them to a launcher. Read `FolderSweeper.sweep` first.

Hydra would compose each run's configuration when its turn comes, so that editing conf/ changes a sweep that is going
on; and would number the folders, so that nothing could be found again. Here all runs are composed and checked before
the first one starts (those of a search, batch by batch), and what launchers load is that (`FrozenLoader`).
"""

import copy
import itertools
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from src.config import Config, compose_config
from src.errors import RequestError, RunError
from src.sweeps import refresh
from src.sweeps.interrupts import Interrupts
from src.sweeps.job import STOPPED, InSweeper, failed
from src.sweeps.plan import Job, identity, run_folder, short_label, strangers
from src.sweeps.watch import Watch
from src.tracking.console import say
from src.tracking.run_folder import claim, is_held, note_failure

LAUNCHES = 2
"""Times that a launcher is handed runs of which it begins none."""


class FrozenLoader(ConfigLoaderImpl):
    """Gives launchers the configurations that were composed when the sweep began."""

    def __init__(self, live: ConfigLoader) -> None:
        super().__init__(live.get_search_path())
        self.jobs: dict[tuple[str, ...], tuple[str, str]] = {}  # overrides: folder's name, configuration as JSON
        self.varied: frozenset[str] = frozenset()  # keys that take several values in this sweep

    def keep(self, jobs: Iterable[Job]) -> None:
        """Take up these jobs in place of the last ones; JSON, as launchers send it to each of their processes."""
        self.jobs = {job.overrides: (job.folder.name, job.config.model_dump_json()) for job in jobs if job.config}

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """What Hydra would compose anew."""
        name, content = self.jobs[tuple(sweep_overrides)]
        config = copy.deepcopy(master_config)
        with read_write(config), open_dict(config):
            for key in [key for key in config if key != "hydra"]:
                del config[key]
            for key, value in json.loads(content).items():
                config[key] = value
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.overrides.task = list(sweep_overrides)
            config.hydra.job.override_dirname = name
            config.hydra.job.name = short_label(sweep_overrides, self.varied)
        return config


class FolderSweeper(Sweeper):
    """Runs every combination of what is varied, or what a search asks for, each in a folder of its own.

    Args: see ``conf/hydra/sweeper/folders.yaml``.
    """

    __module__ = "hydra_plugins.deep_rnn"  # see `register`

    def __init__(
        self, params: Mapping[str, Any] | None, threads: float | None, at_once: int | None, gpus_in_turn: bool
    ) -> None:
        self.params = dict(params or {})
        self.threads, self.at_once = threads, at_once
        self.gpus_in_turn = gpus_in_turn

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's hook: what was typed is composed, and nothing has been done yet."""
        self.live = hydra_context.config_loader
        self.folder = Path(config.hydra.sweep.dir)
        self.frozen = FrozenLoader(self.live)
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=HydraContext(config_loader=self.frozen, callbacks=hydra_context.callbacks),
            task_function=task_function,
            config=config,
        )
        self.launch_all = launcher.launch
        self.parallel = not str(config.hydra.launcher._target_).endswith("BasicLauncher")
        self.launched = 0
        self.composed = config

    def sweep(self, arguments: list[str]) -> None:
        """Do what is left of the sweep.

        Raises:
            RequestError, RunError: not all of it is done; the failed runs have been named already.
        """
        InSweeper.yes, InSweeper.watched = True, self.parallel
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / STOPPED).unlink(missing_ok=True)
        except OSError as error:
            raise RequestError(f"{self.folder}: the sweep's folder cannot be made ({error.strerror})") from error
        varied = self._varied(arguments)
        self.frozen.varied = frozenset(each.get_key_element() for each in varied if each.is_sweep_override())
        try:
            if self.composed.sweep.search is None:
                jobs = [self.job(overrides) for overrides in grid(varied)]
                self.run(jobs)
            else:
                from src.sweeps.search import search  # late: Optuna is an extra

                jobs = search(self, varied)
            end_idle_processes()
        except KeyboardInterrupt:
            say("stopped by SIGINT; the same command goes on with what is left")
            raise
        finally:
            refresh(self.folder, final=True)
        if (page := self.folder / "page.html").exists():
            say(f"table and figures: {page}")
        report(jobs)

    @property
    def stopped(self) -> bool:
        """Whether a run has failed and ``sweep.fail_fast`` lets no other begin."""
        return (self.folder / STOPPED).exists()

    def _varied(self, arguments: list[str]) -> list[Override]:
        """What was typed, and before it what the named sweep varies; the last word on a key counts."""
        parser = OverridesParser.create(config_loader=self.live)
        named = [f"{key}={value}" for key, value in self.params.items()]
        overrides = {override.get_key_element(): override for override in parser.parse_overrides([*named, *arguments])}
        return sorted(
            overrides.values(), key=lambda override: not override.is_sweep_override()
        )  # name folders by these

    # ------------------------------------------------------------------------------------------------ one batch
    def job(self, overrides: Sequence[str]) -> Job:
        """Compose a run's configuration, now and for good.

        Raises:
            HydraException: it cannot be composed; a wrong name is wrong for the whole sweep.
        """
        cfg = self.live.load_sweep_config(self.composed, list(overrides))
        with read_write(cfg), open_dict(cfg):
            del cfg["hydra"]
        try:
            config = compose_config(cfg)
        except RequestError as error:
            return Job(tuple(overrides), None, run_folder(self.folder, overrides, list(overrides)), error)
        return Job(tuple(overrides), self._placed(config), run_folder(self.folder, overrides, identity(config)))

    def _placed(self, config: Config) -> Config:
        """With the share of the machine that the launcher gives each run."""
        threads = config.threads or (max(1, int(self.threads)) if self.threads else None)
        changed: dict[str, Any] = {"threads": threads}
        if self.parallel:  # bars of several runs would draw over each other
            changed["trainer"] = config.trainer.model_copy(update={"progress": False, "summary": False})
        return config.model_copy(update=changed)

    def run(self, jobs: Sequence[Job]) -> None:
        """Run what is left of these jobs; how it went stands in their folders."""
        jobs = list({job.folder: job for job in jobs}.values())  # asked for twice is run once
        for job in jobs:
            if job.refusal is not None:
                refuse(job)
        left = [job for job in jobs if job.config is not None and wanted(job)]
        say(overview(jobs, left))
        for folder, why in strangers(left):
            say(f"{folder.name}: left as it is, this version makes another run of it ({why})")
        chunk = self.at_once or max(len(left), 1)
        for start in range(0, len(left), chunk):
            self._launch(left[start : start + chunk])

    def _launch(self, jobs: list[Job]) -> None:
        """Hand runs to the launcher, and again what is left of them if a process dies (killed, or out of memory).

        One such run may take all that are at work with it, and whose fault it was is not known. So first those go on
        that had not begun, then each of the others alone; what dies again has FAILED.
        """
        suspects: list[Job] = []
        launches = 0
        while jobs and launches < LAUNCHES and not self.stopped:
            begun, rest = self._launch_once(jobs)
            suspects += begun
            launches = launches + 1 if len(rest) == len(jobs) else 0
            if rest and launches < LAUNCHES:
                say(f"{len(rest)} runs never began, as a process died: going on with them")
            jobs = rest
        for number, job in enumerate(suspects):
            if self.stopped:
                return
            if number == 0:
                say(f"{len(suspects)} runs were cut off when a process died: going on with them, one at a time")
            begun, _ = self._launch_once([job])
            if begun:
                died_again(job)

    def _launch_once(self, jobs: list[Job]) -> tuple[list[Job], list[Job]]:
        """Hand runs to the launcher.

        Returns:
            If a process died, what that left undone: runs that had begun, and others. Else nothing.
        """
        began, before = time.time(), {job.folder: touched(job.folder) for job in jobs}
        self.frozen.keep(jobs)
        died = False
        try:
            with Interrupts(), Watch(jobs, active=self.parallel):
                results = self.launch_all([list(job.overrides) for job in jobs], self.launched)
            died = any(result.status is JobStatus.UNKNOWN for result in results)
        except (RequestError, RunError):
            raise
        except Exception as error:  # the launcher's own, such as a worker that was killed
            say(f"error: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
            died = True
        self.launched += len(jobs)
        while died and any(is_held(job.folder) for job in jobs):  # the others, which the launcher has left alone
            time.sleep(0.5)
        left = [job for job in jobs if died and not (job.ended(began) or is_held(job.folder))]
        begun = [job for job in left if touched(job.folder) not in (None, before[job.folder])]
        return begun, [job for job in left if job not in begun]


def touched(folder: Path) -> int | None:
    """When something was made or deleted in a folder; none where there is no folder."""
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return None


def died_again(job: Job) -> None:
    """Note that a run's process dies whenever it is made, unless another sweep has taken it up."""
    error = RunError("its process was killed (out of memory?)")
    with suppress(RequestError), claim(job.folder):
        if job.state in ("new", "begun"):
            note_failure(job.folder, error)
            failed(job.label, error, noted=False)  # nobody watches any more
            assert job.config is not None
            if job.config.sweep.fail_fast:
                (job.folder.parent / STOPPED).touch()


def end_idle_processes() -> None:
    """End the processes that joblib keeps for a next call: leaving that to Python's own end takes a sweep seconds."""
    if "joblib.externals.loky" in sys.modules:
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor(reuse=True).shutdown(kill_workers=True)


def grid(varied: Sequence[Override]) -> list[list[str]]:
    """Every combination, the last key changing fastest.

    Raises:
        RequestError: a range that only a search can draw from.
    """
    choices = []
    for override in varied:
        key = override.get_key_element()
        if not override.is_sweep_override():
            choices.append([f"{key}={override.get_value_element_as_str()}"])
        elif override.is_discrete_sweep():
            choices.append([f"{key}={value}" for value in override.sweep_string_iterator()])
        else:
            raise RequestError(
                f"{override.input_line}: only a search can draw from this; add sweep=optuna, or list values"
            )
    return [list(combination) for combination in itertools.product(*choices)]


def wanted(job: Job) -> bool:
    """Whether there is something left to do."""
    assert job.config is not None
    return job.state in ("new", "begun") or (job.state == "FAILED" and job.config.sweep.retry_failed)


def refuse(job: Job) -> None:
    """Say that a run was asked for in vain, here and in its folder."""
    assert job.refusal is not None
    failed(job.label, job.refusal, noted=False)  # nobody watches what is not run
    if job.state in ("new", "FAILED"):
        note_failure(job.folder, job.refusal)


def overview(jobs: Sequence[Job], left: Sequence[Job]) -> str:
    """One line: what is there, and what there is to do."""
    counts = Counter(_todo(job, job in left) for job in jobs)
    return f"{len(jobs)} runs: " + ", ".join(f"{count} {what}" for what, count in counts.items())


def _todo(job: Job, left: bool) -> str:
    if job.refusal is not None:
        return "refused"
    words = {"DONE": "done", "PRUNED": "pruned", "begun": "begun, to go on", "new": "new"}
    return words.get(job.state) or ("failed, to be tried again" if left else "failed, and left so")


def report(jobs: Sequence[Job]) -> None:
    """Raise unless every run came to a good end, here or in another process."""
    failures = [job for job in jobs if job.state == "FAILED"]
    undone = [job for job in jobs if job.state in ("new", "begun") and not is_held(job.folder)]
    if not failures and not undone:
        return
    parts = [f"{len(failures)} of {len(jobs)} runs failed"] if failures else []
    if undone:
        parts.append(f"{len(undone)} of {len(jobs)} runs are not finished")
    names = ", ".join(job.folder.name for job in [*failures, *undone][:3])
    more = ", …" if len(failures) + len(undone) > 3 else ""
    line = f"{' and '.join(parts)} ({names}{more}); the same command takes them up"
    raise (RequestError if not undone and all(job.refused for job in failures) else RunError)(line)


def places() -> int:
    """How many runs this machine makes side by side: one on each GPU, else one on each core."""
    import torch

    return torch.cuda.device_count() or cores()


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def register() -> None:
    """Make the sweeper, the launcher for Ray and the arithmetic of shares known to Hydra."""
    from src.sweeps.ray_launcher import RayLauncher

    for plugin in (FolderSweeper, RayLauncher):
        Plugins.instance().register(plugin)
        # Hydra takes plugins from the package hydra_plugins only; each room of this house has its place already.
        for name in ("hydra_plugins", "hydra_plugins.deep_rnn"):
            with suppress(ImportError):
                import_module(name)
            sys.modules.setdefault(name, ModuleType(name))
        setattr(sys.modules["hydra_plugins.deep_rnn"], plugin.__name__, plugin)
    OmegaConf.register_new_resolver("places", places, replace=True)
    OmegaConf.register_new_resolver("core_share", lambda parts: max(1, cores() // max(1, int(parts))), replace=True)

"""One run of a sweep, in whatever process a launcher put it: claim its folder, do what is left, say how it went."""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from src.config import Config, compose_config
from src.errors import FolderGoneError, InUseError, RequestError, RunError
from src.failures import one_line
from src.sweeps import refresh
from src.sweeps.plan import label
from src.tracking.console import say, speaking_for
from src.tracking.run_folder import claim, end_of, holds_run, note_failure

Run = Callable[[Config, Path], float | None]
STOPPED = ".stopped"
"""Lies in the folder of a sweep in which, with ``sweep.fail_fast``, a run has failed."""


class InSweeper:
    """Whether this process is the one that drives the sweep, and not one that a launcher started."""

    yes = False
    watched = False
    """Whether a `Watch` tells how runs end, also those that a launcher makes in this process."""


def sweep_job(cfg: DictConfig, run: Run) -> None:
    """Make one run of a sweep, or go on with it, unless there is nothing left to do.

    Raises:
        RequestError, RunError: it failed; its folder and the console say so already.
    """
    hydra = HydraConfig.get()
    os.chdir(hydra.runtime.cwd)  # a launcher's process may stand elsewhere
    sweep = Path(hydra.runtime.output_dir)
    folder, name = sweep / hydra.job.override_dirname, label(hydra.overrides.task)
    config = compose_config(cfg)
    if hydra.sweeper.gpus_in_turn and config.device == "auto":
        config = config.model_copy(update={"device": gpu_in_turn(hydra.job.num)})
    if config.sweep.fail_fast and (sweep / STOPPED).exists():
        return
    try:
        with ExitStack() as stack:
            try:
                stack.enter_context(claim(folder))
            except InUseError:
                say(f"{name}: another process is at it; left to that one")
                return
            except RequestError as error:  # said by any process: there is no place for a FAILED
                say(f"error: {name}: {error}")
                raise
            stack.callback(_remove_empty, folder)  # while it is locked: another's may be as empty at first
            _go_on(config, folder, name, run)
    finally:
        refresh(sweep)


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()  # only where nothing was written


def _go_on(config: Config, folder: Path, name: str, run: Run) -> None:
    """Do what is left of the run; the folder is ours."""
    end = end_of(folder)
    if end in ("DONE", "PRUNED") or (end == "FAILED" and not config.sweep.retry_failed):
        return  # another process was quicker
    if holds_run(folder):
        config = config.model_copy(update={"resume": str(folder)})
    with suppress(OSError):  # the run itself will say what is wrong with the disk
        (folder / "FAILED").unlink(missing_ok=True)  # an old reason, which would hide today's
        os.utime(folder)  # tells the sweep who was at work, should this process die
    try:
        with nullcontext() if InSweeper.yes else speaking_for(HydraConfig.get().job.name):
            run(config, folder)
    except Exception as error:
        if isinstance(code := getattr(error, "exit_code", None), int):  # a signal
            if InSweeper.yes or code != 128 + signal.SIGINT:  # Ctrl-C reaches all at once: the sweeper speaks for them
                say(f"{name}: {error}; the same command goes on with it")
            if InSweeper.yes:
                sys.exit(code)
            raise RunError(f"{name}: {error}") from error
        if not isinstance(error, FolderGoneError) and end_of(folder) is None:
            note_failure(folder, error)
        if config.sweep.fail_fast:
            (folder.parent / STOPPED).touch()
        raise failed(name, error, noted=end_of(folder) == "FAILED") from error


def failed(name: str, error: Exception, noted: bool = True) -> Exception:
    """Say at once that a run failed, and return what its job is to end with.

    Where there is a `Watch` (processes of their own have one, as their lines may go to a file), that is left to it if
    there is a FAILED for it to see (``noted``).
    """
    line = f"{name}: {one_line(error)}"
    if not noted or (InSweeper.yes and not InSweeper.watched):
        say(f"error: {line}")
    return (RequestError if isinstance(error, RequestError) else RunError)(line)


def gpu_in_turn(number: int) -> str:
    """The device of the n-th run: each GPU in turn where there are several."""
    import torch

    count = torch.cuda.device_count()
    return f"cuda:{number % count}" if count > 1 else "auto"

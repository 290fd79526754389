"""The doors: one clear line for an error, exit codes, and one job under Hydra.

Exit codes: 0 done, 1 a run that failed, 2 a wrong request, 130 and 143 for SIGINT and SIGTERM.
``HYDRA_FULL_ERROR=1`` shows the traceback as well.
"""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from src import processes
from src.arguments import prepare, typed_keys
from src.config import Config, compose_config, read_config, with_keys
from src.errors import RunError, printable
from src.failures import exit_code, explain


class JobEnded(BaseException):
    """Carries a job's error past Hydra, which would print lines of its own around an ordinary one."""


def train_door(main: Callable[[], Any]) -> NoReturn:
    """Open a door whose ``main`` stands under ``hydra.main``, and leave with the right exit code."""

    def prepared() -> None:
        sys.argv[1:] = prepare(sys.argv[1:])
        if {"-m", "--multirun"} & set(sys.argv):
            from src.sweeps.sweeper import register  # late: it brings torch

            register()
        main()

    open_door(prepared, together=True)


def open_door(main: Callable[[], Any], together: bool = False) -> NoReturn:
    """Run a door's ``main`` and leave with the right exit code, after one line for what went wrong.

    ``together``: several processes, as torchrun starts them, may do it as one.
    """
    show_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises where it would print and exit by itself
    # A shell starts what it puts into the background (`&` in a script) deaf to SIGINT. The loop of a training hears it
    # all the same; where the rest did not, a sweep would take its runs, which have stopped, for runs that failed.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        processes.start(together)
        main()
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:  # whoever read the answers, `head` perhaps, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except (JobEnded, Exception) as failure:
        in_job = isinstance(failure, JobEnded)
        error = failure.__cause__ if in_job else failure
        assert error is not None
        code, line = exit_code(error, in_job), explain(error, in_job)
        if processes.speaks(line):
            if show_traceback or (code == 1 and not isinstance(error, RunError)):
                traceback.print_exception(error)
            print(f"error: {printable(line)}", file=sys.stderr, flush=True)
        sys.exit(code)
    finally:
        processes.leave()


def job(cfg: DictConfig, run: Callable[[Config, Path], float | None]) -> float | None:
    """Validate what Hydra composed and run it in the folder that Hydra chose, or as one of a sweep."""
    hydra = HydraConfig.get()
    if hydra.mode is RunMode.MULTIRUN:
        from src.sweeps.job import sweep_job

        sweep_job(cfg, run)
        return None
    folder = the_folder(Path(hydra.runtime.output_dir))
    try:
        return run(config_of(cfg, list(hydra.overrides.task)), folder)
    except Exception as error:
        if isinstance(code := getattr(error, "exit_code", None), int):  # a signal: the run can be resumed
            if processes.main():
                print(f"{error}; go on with: python -m src.train resume={folder}", file=sys.stderr, flush=True)
            sys.exit(code)
        raise JobEnded from error
    finally:
        if processes.main() and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()  # made by Hydra for a request that was refused


def the_folder(own: Path) -> Path:
    """The folder of process 0, for which Hydra made each process its own: the name may have the time in it."""
    folder = Path(processes.agreed("folder", str(own)))
    if folder != own and not any(own.iterdir()):
        own.rmdir()
    return folder


def config_of(cfg: DictConfig, overrides: list[str]) -> Config:
    """Validate what Hydra composed; with ``resume`` take the old run's config, and only ``overrides`` from the new."""
    config = compose_config(cfg)
    if config.resume is None:
        return config
    return with_keys(read_config(config.resume, "resume"), config, typed_keys(overrides))

"""Where cases are tried: each in a process of its own, forked from one that has imported everything.

A process costs three seconds of imports, and a fork of this one none; every so many cases a real ``python -m src.…``
is started all the same. This process never runs a thread: nothing else may be forked safely.
"""

import atexit
import contextlib
import importlib
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from deep_rnn.kernels import build
from fuzzing.case import Case, Outcome

ROOM = 6 << 30
"""Bytes of address space that a case may take: a huge width must not take the machine."""
OUT, ERR = ".stdout", ".stderr"


def environment(cache: Path) -> dict[str, str]:
    """Of every case: one thread, nothing to W&B, and no file of the user's."""
    root = Path(__file__).resolve().parents[2]
    paths = [str(root / "src"), str(root), os.environ.get("PYTHONPATH", "")]
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "OMP_NUM_THREADS": "1",
        "DEEP_RNN_CACHE": str(cache),
        "WANDB_MODE": "offline",
        "MPLBACKEND": "Agg",
        "COLUMNS": "200",
    }


def open_door(door: str, arguments: list[str]) -> int:
    """Do in this process what ``python -m src.DOOR`` does, and return its exit code."""
    sys.argv[:] = [f"{door}.py", *arguments]
    os.environ.pop("HYDRA_FULL_ERROR", None)
    from src import cli

    try:
        if door == "sweeps":
            return int(importlib.import_module("src.sweeps.__main__").main(arguments))
        module = importlib.import_module(f"src.{door}")
        (cli.train_door if door == "train" else cli.open_door)(module.main)
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        return 1


def learn_imports(work: Path, requests: Iterable[tuple[str, list[str]]]) -> None:
    """Import here what these requests import, as forked processes tell, and load the fused kernels."""
    for number, (door, arguments) in enumerate(requests):
        told = work / f"modules-{number}.json"

        def first(door: str = door, arguments: list[str] = arguments, told: Path = told) -> int:
            code = open_door(door, arguments)
            told.write_text(json.dumps(list(sys.modules)))
            return code

        pid = _fork(work, b"", first, ROOM)
        _, status = os.waitpid(pid, 0)
        if os.waitstatus_to_exitcode(status) != 0:
            raise RuntimeError(f"{door} {' '.join(arguments)}: {(work / ERR).read_text()[-2000:]}")
        for name in json.loads(told.read_text()):
            if not name.startswith(("src.train", "__")):
                with contextlib.suppress(ImportError):
                    importlib.import_module(name)
    build.load()


def _fork(folder: Path, stdin: bytes, work: Callable[[], int], room: int) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    (folder / ".stdin").write_bytes(stdin)
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.setsid()
        os.chdir(folder)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, (name, flags) in enumerate(
            [
                (".stdin", os.O_RDONLY),
                (OUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
                (ERR, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
            ]
        ):
            os.dup2(os.open(folder / name, flags), number)
        resource.setrlimit(resource.RLIMIT_AS, (room, room))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        temporary = folder / ".tmp"
        temporary.mkdir(exist_ok=True)
        os.environ["TMPDIR"] = str(temporary)
        code = work()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def try_cases(
    cases: Iterable[Case], prepare: Callable[[Case], Path], jobs: int, limit: float, fresh_every: int
) -> Iterator[tuple[Case, Path, Outcome]]:
    """Try each case, so many at a time, as they end.

    Args:
        cases: what to try.
        prepare: makes the folder of a case.
        jobs: at a time.
        limit: seconds after which a case is ended.
        fresh_every: one case in so many is tried in a process of its own from the start.
    """
    waiting, running = iter(cases), dict[int, tuple[Case, Path, float]]()
    over = False
    while running or not over:
        while not over and len(running) < jobs:
            case = next(waiting, None)
            if case is None:
                over = True
                break
            folder = prepare(case)
            fresh = fresh_every > 0 and case.number % fresh_every == fresh_every - 1
            running[_fork(folder, case.stdin, _work(case, fresh), ROOM)] = (case, folder, time.monotonic())
        if not running:
            return
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid in running:
            case, folder, began = running.pop(pid)
            yield case, folder, _outcome(folder, os.waitstatus_to_exitcode(status), time.monotonic() - began)
            continue
        for pid, (case, folder, began) in list(running.items()):
            if time.monotonic() - began > limit:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                del running[pid]
                yield case, folder, _outcome(folder, None, time.monotonic() - began)
        time.sleep(0.005)


def _work(case: Case, fresh: bool) -> Callable[[], Any]:
    if fresh:
        return lambda: os.execv(sys.executable, [sys.executable, "-m", f"src.{case.door}", *case.arguments])
    return lambda: open_door(case.door, case.arguments)


def _outcome(folder: Path, code: int | None, seconds: float) -> Outcome:
    out, err = ((folder / name).read_bytes().decode(errors="replace") for name in (OUT, ERR))
    return Outcome(code, out, err, seconds)

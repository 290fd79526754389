"""The processes of one run, as torchrun starts them: where they meet, which of them speaks, and who waits for whom.

What they compute together is the business of ``src.training.distributed``. Without torchrun there is one process, and
nothing here does anything.
"""

import functools
import logging
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from src.errors import RequestError

ROLL_CALL_SECONDS = 8.0
"""How long a process that has lost another waits for the others to say that they are there: one may be in the middle
of an evaluation. With the next one it must stay below torchrun's 30 s."""
CLOSING_SECONDS = 20.0
"""How long the others wait for process 0 to close the run; torchrun kills all 30 s after the first has failed."""


def rank() -> int:
    """The number of this process; 0 is the one that writes."""
    return int(os.environ.get("RANK", "0"))


def main() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0


def size() -> int:
    """Processes of this run, on all machines."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@functools.cache
def store() -> Any:
    """The key-value store where they meet before there is anything else, and still do when a process is gone."""
    from torch.distributed.rendezvous import rendezvous  # late: one process alone needs no torch here

    return next(rendezvous("env://"))[0]


def start(together: bool) -> None:
    """Begin in silence everywhere but in process 0.

    Raises:
        RequestError: several processes, for what is done by one.
    """
    if size() == 1:
        return
    if not main():
        log = logging.getLogger("src")
        log.addHandler(logging.NullHandler())  # without one, Python prints warnings
        log.propagate = False
    if not together:
        raise RequestError("torchrun is for src.train; this runs in one process: call it with python -m")
    store().set(f"process/{rank()}", f"{os.getpid()} {socket.gethostname()}")


def agreed(key: str, value: str) -> str:
    """What process 0 says of something that each may see in its own way."""
    if size() == 1:
        return value
    if main():
        store().set(key, value)
    wait(key)
    return str(store().get(key).decode())


def wait(key: str) -> None:
    """Wait until a process has said that it is `done` with something, however long that takes."""
    while not store().check([key]):
        time.sleep(0.1)  # in Python, where a signal is heard


def done(key: str) -> None:
    """Say that this process is done with something that others wait for."""
    store().set(key, "")


# ------------------------------------------------------------------------------------------------------- failing
def speaks(line: str) -> bool:
    """Whether this process is to tell the user of a failure: the first that fails is, and the others know why."""
    if size() == 1:
        return True
    with suppress(RuntimeError):  # the store is gone with its machine
        if store().add("failures", 1) > 1:
            return False
        store().set("failure", f"process {rank()} of {size()} failed: {line}")
    return True


def why_lost() -> str:
    """Say why this process can reach the others no longer: what one of them failed of, or which do not answer."""
    try:
        if store().check(["failure"]):
            return str(store().get("failure").decode())
        return _roll_call()
    except RuntimeError:
        return "process 0's machine does not answer"


def _roll_call() -> str:
    done(f"here/{rank()}")
    missing, until = set(range(size())), time.monotonic() + ROLL_CALL_SECONDS
    while missing and time.monotonic() < until:
        if store().check(["failure"]):  # not killed: it was about to say why it ends
            return str(store().get("failure").decode())
        missing = {other for other in missing if not store().check([f"here/{other}"])}
        time.sleep(0.1)
    if 0 in missing:
        done("closed")  # by nobody, or by 0 once this process has let go of it: nobody need wait
    if not missing:
        return f"the {size()} processes have lost their connections"
    # One that lives may wait for this one and not hear the call: it is named only where nobody is known to be gone.
    gone = {other for other in missing if _is_gone(other)}
    names = ", ".join(map(str, sorted(gone or missing)))
    return f"process {names} of {size()} was killed or does not answer"


def _is_gone(other: int) -> bool:
    """Whether a process is known to have ended: one of this machine, by its number."""
    key = f"process/{other}"
    pid, _, host = store().get(key).decode().partition(" ") if store().check([key]) else ("", "", "")
    return host == socket.gethostname() and has_ended(int(pid))


def has_ended(pid: int) -> bool:
    """Whether there is no such process, or only what its parent has not yet taken notice of."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except ProcessLookupError:
        return True
    except OSError:  # somebody else's, or a system without /proc
        return False


def leave() -> None:
    """End after process 0, which has a run to close: torchrun ends all processes when the first one fails."""
    if size() == 1:
        return
    with suppress(RuntimeError):
        if main():
            done("closed")
        until = time.monotonic() + CLOSING_SECONDS
        while not store().check(["closed"]) and time.monotonic() < until:
            time.sleep(0.1)

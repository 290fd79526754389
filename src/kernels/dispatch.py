"""Which backend runs a call: the one that was named, or the first in the table that can."""

from collections.abc import Callable
from typing import NamedTuple

import torch

from src.kernels import loop, native, scan
from src.kernels.call import Call, Result


class Backend(NamedTuple):
    """One way to unroll layers over time."""

    why_not: Callable[[Call], str | None]  # why it cannot run a call, or None
    run: Callable[[Call], Result]


BACKENDS: dict[str, Backend] = {  # in the order in which `auto` tries them
    "native": Backend(native.why_not, native.run),
    "loop": Backend(loop.why_not, loop.run),
    "scan": Backend(scan.why_not, scan.run),
}


def candidates() -> list[str]:
    """What ``auto`` tries, in order: while torch.export runs only scan, since all others freeze the number of steps."""
    return ["scan"] if torch.compiler.is_exporting() else list(BACKENDS)


def pick(call: Call, backend: str) -> tuple[str, str]:
    """The name of the backend that runs the call, and why this one.

    Raises:
        ValueError: if a backend named other than ``auto`` cannot run the call. None falls back in silence.
    """
    if backend != "auto":
        reason = BACKENDS[backend].why_not(call)
        if reason is not None:
            raise ValueError(f"backend={backend} cannot run this: {reason}; use backend=auto or backend=loop")
        return backend, "asked for"
    refusals: list[str] = []
    for name in candidates():
        reason = BACKENDS[name].why_not(call)
        if reason is None:
            return name, "; ".join(refusals) or "first choice"
        refusals.append(f"not {name}: {reason}")
    raise ValueError(f"no backend can run this: {'; '.join(refusals)}")


def unroll(call: Call, backend: str = "auto") -> Result:
    """Run a call on the backend that ``pick`` picks."""
    name, _ = pick(call, backend)
    return BACKENDS[name].run(call)


def takes_whole_stack(call: Call, backend: str) -> bool:
    """Whether one call of the backend can run all the layers at once."""
    names = candidates() if backend == "auto" else [backend]
    return any(BACKENDS[name].why_not(call) is None for name in names)

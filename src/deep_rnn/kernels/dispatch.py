"""Which backend runs a call: the one that was named, or the first in the table that can and is not slower."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch._C._functorch import get_interpreter_stack
from torch.autograd import forward_ad

from deep_rnn.kernels import compiled, eager, fused_backend, loop, native, scan
from deep_rnn.kernels.call import Call, Result
from deep_rnn.kernels.stand_in import original
from deep_rnn.kernels.tracing import in_graph


def never(call: Call) -> str | None:
    """A backend that ``auto`` takes wherever it can run."""
    return None


class Backend(NamedTuple):
    """One way to unroll layers over time."""

    why_not: Callable[[Call], str | None]  # why it cannot run a call, or None
    run: Callable[[Call], Result]
    yields: Callable[[Call], str | None] = never  # why `auto` leaves the call to the next one although it can, or None
    reads_padding: bool = True  # whether padded steps of x that are not zero could reach a result


BACKENDS: dict[str, Backend] = {  # in the order in which `auto` tries them
    "fused": Backend(fused_backend.why_not, fused_backend.run, reads_padding=False),
    "eager": Backend(eager.why_not, eager.run, eager.yields),
    "native": Backend(native.why_not, native.run),
    "compiled": Backend(compiled.why_not, compiled.run, compiled.yields),
    "loop": Backend(loop.why_not, loop.run),
    "scan": Backend(scan.why_not, scan.run),
}


def candidates() -> list[str]:
    """What ``auto`` tries, in order: while torch.export runs only scan, since all others freeze the number of steps."""
    return ["scan"] if torch.compiler.is_exporting() else list(BACKENDS)


def choose(call: Call, backend: str) -> tuple[str | None, str]:
    """The name of the backend that runs the call, None if there is none, and why."""
    if backend != "auto":
        reason = BACKENDS[backend].why_not(call)
        return (backend, "asked for") if reason is None else (None, reason)
    refusals: list[str] = []
    for name in candidates():
        reason = BACKENDS[name].why_not(call) or BACKENDS[name].yields(call)
        if reason is None:
            return name, "; ".join(refusals) or "first choice"
        refusals.append(f"not {name}: {reason}")
    return None, "; ".join(refusals)


def pick(call: Call, backend: str) -> tuple[str, str]:
    """The name of the backend that runs the call, and why this one.

    Raises:
        ValueError: if the backend named, or with ``auto`` any, cannot run the call. None falls back in silence.
    """
    name, reason = choose(call, backend)
    if name is None and backend == "auto":
        raise ValueError(f"no backend can run this: {reason}")
    if name is None:
        raise ValueError(f"backend={backend} cannot run this: {reason}; use backend=auto or backend=loop")
    return name, reason


def unroll(call: Call, backend: str = "auto") -> Result:
    """Run a call on the backend that ``pick`` picks."""
    name, _ = pick(call, backend)
    return BACKENDS[name].run(call)


def is_special() -> bool:
    """Whether a choice holds for the moment only: traced, transformed by torch.func or differentiated forward."""
    return bool(torch.jit.is_tracing() or get_interpreter_stack() or forward_ad._current_level >= 0)


class Choices(dict[tuple[Any, ...], str | None]):
    """What ``choose`` answered, by all that it looks at: asking anew costs a small stack a good part of its time.

    A module keeps one for its own cells; copies of it, and what is unpickled, start empty.
    """

    most = 1000  # sequences of ever new lengths must not make it grow for ever

    def choose(self, call: Call, backend: str) -> str | None:
        """The name of the backend that runs the call, None if there is none."""
        if call.noises or in_graph() or is_special():
            return choose(call, backend)[0]
        x, first, cells = call.x, call.layers[0][0], [original(cell) for cells in call.layers for cell in cells]
        weight = first._parameters.get("weight_ih")  # by attribute it is half a microsecond
        key = (
            *cells,
            *[cell.signature for cell in cells],
            (first.weight_ih if weight is None else weight).dtype,
            len(call.layers),
            backend,
            x.shape,
            x.dtype,
            x.device,
            call.lengths is None,
            call.starts is None,
            call.zoneout,
            call.dropout,
            call.training,
            call.recompute,
            torch.is_grad_enabled(),
        )
        name = self.get(key, "")
        if name == "":  # looked up once: a key is long
            if len(self) >= self.most:
                self.clear()
            name = self[key] = choose(call, backend)[0]
        return name

    def __reduce__(self) -> Any:
        return Choices, ()

"""One run in several processes: every process takes its columns of each batch, and all make the same update.

Each has the whole model and sees the whole batch, so that all know the number of elements that the loss is the mean
of. What they exchange is one sum of all gradients and the loss an update, which makes an update the same as one process
would make it, but for the order of additions. Penalties on the stack's outputs are the exception: they are means over
the valid steps of each process's part.
"""

import os
import signal
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import reduce
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from src import processes
from src.data.batch import Batch
from src.errors import RunError
from src.tasks.base import Metrics
from src.training.checkpoint import to_device, to_plain
from src.training.precision import seed_everything, set_rng_state

Anything = TypeVar("Anything")


class World:
    """The processes that train one model together; where there is one alone, nothing is exchanged.

    Attributes:
        rank: number of this process.
        size: how many there are.
        main: whether this is process 0, which alone writes.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size, self.main = rank, size, rank == 0

    # ----------------------------------------------------------------------------------------------- the start
    def in_turn(self, build: Callable[[], Anything]) -> Anything:
        """Build something in one process of each machine first, so that the others find it in its cache."""
        if self.size == 1:
            return build()
        first, key = os.environ.get("LOCAL_RANK") == "0", f"built/{socket.gethostname()}"
        if not first:
            processes.wait(key)
        built = build()
        if first:
            processes.done(key)
        return built

    def begin(self, model: nn.Module, seed: int) -> None:
        """Start from process 0's weights everywhere, and draw other noise in every process."""
        self.share_weights(model)
        if self.rank > 0:
            seed_everything(derived_seed(seed, self.rank))

    def share_weights(self, model: nn.Module) -> None:
        """Give all processes process 0's parameters and buffers."""
        if self.size > 1:
            with reached():
                for tensor in model.state_dict().values():
                    dist.broadcast(tensor, 0)

    # ------------------------------------------------------------------------------------------------ a batch
    def part(self, batch: Batch) -> tuple[Batch, bool]:
        """Return this process's columns of a batch, and True; of fewer columns than processes some get another's.

        Those get False with it: the part counts for nothing, and only lets each process go through the same motions.
        """
        if self.size == 1:
            return batch, True
        first, last = self.columns(len(batch.lengths))
        part = batch.columns(first, last) if last > first else batch.columns(0, 1)
        return (part.pin_memory() if batch.lengths.is_pinned() else part), last > first

    def columns(self, count: int) -> tuple[int, int]:
        """The first and the one past the last of this process's columns: as many for each, as near as can be."""
        return count * self.rank // self.size, count * (self.rank + 1) // self.size

    def sum_gradients(self, parameters: Iterable[nn.Parameter], loss: Tensor) -> Tensor:
        """Replace each gradient by its sum over all processes, in one exchange, and return the sum of the losses."""
        if self.size == 1:
            return loss
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        there = self.largest(*(parameter.grad is not None for parameter in trained))
        gradients = []
        for parameter, somewhere in zip(trained, there, strict=True):
            if somewhere:  # else none has one, and the optimizer is to leave it alone
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                gradients.append(parameter.grad)
        flat = torch.cat([*(gradient.flatten() for gradient in gradients), loss.flatten()])
        with reached():
            dist.all_reduce(flat)
        *sums, total = flat.split([*(gradient.numel() for gradient in gradients), 1])
        for gradient, summed in zip(gradients, sums, strict=True):
            gradient.copy_(summed.view_as(gradient))
        return total[0].to(loss.dtype)

    # ---------------------------------------------------------------------------------------------- agreeing
    def largest(self, *values: int) -> list[int]:
        """The largest of each of these values over all processes; an exchange between hosts, which no GPU waits for."""
        if self.size == 1:
            return list(values)
        exchanged = torch.tensor(values, dtype=torch.int64)
        with reached():
            dist.all_reduce(exchanged, dist.ReduceOp.MAX)
        return exchanged.tolist()

    def mains(self, value: Callable[[], Anything]) -> Anything:
        """What process 0 makes of this, in all processes."""
        if self.size == 1:
            return value()
        box = [value() if self.main else None]
        with reached():
            dist.broadcast_object_list(box, 0)
        return box[0]  # type: ignore[return-value]

    def gathered(self, value: Anything) -> list[Anything]:
        """This value of every process, in their order."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with reached():
            dist.all_gather_object(values, value)
        return values

    # ------------------------------------------------------------------------------------------ state in parts
    def summed(self, metrics: Metrics, fresh: Metrics, device: torch.device) -> Metrics:
        """The metrics of the whole, in ``fresh`` ones, from the metrics that every process has of its parts."""
        if self.size == 1:
            return metrics
        states = self.gathered(to_plain(metrics.state_dict()))
        names = dict.fromkeys(name for state in states for name in state)
        whole = {name: add(state.get(name) for state in states) for name in names}
        fresh.load_state_dict(to_device(whole, device))
        return fresh

    def whole_columns(self, carry: Any) -> Any:
        """Put together what the processes carry from batch to batch, in the order of the columns."""
        if self.size == 1:
            return carry
        return join_columns([part for part in self.gathered(to_plain(carry)) if part is not None])

    def own_columns(self, carry: Any) -> Any:
        """This process's part of what `whole_columns` gave, be it of another number of processes."""
        if isinstance(carry, Tensor):
            first, last = self.columns(len(carry))
            return carry[first:last].clone()
        return [self.own_columns(item) for item in carry] if isinstance(carry, list) else carry

    def take_rng(self, states: list[Any], seed: int, step: int) -> None:
        """Go on with this process's random generators; one that was not there when they were saved draws new ones."""
        if self.rank < len(states):
            set_rng_state(states[self.rank])
        else:
            seed_everything(derived_seed(seed, self.rank, step))


ALONE = World()


@contextmanager
def join(device: torch.device, minutes: float) -> Iterator[World]:
    """Join the processes that torchrun started; leave them at the end.

    Args:
        device: this process's own.
        minutes: that a process may let the others wait before they give it up.
    """
    if processes.size() == 1:
        yield ALONE
        return
    with reached():
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            store=dist.PrefixStore("group", processes.store()),
            rank=processes.rank(),
            world_size=processes.size(),
            timeout=timedelta(minutes=minutes),
        )
    try:
        yield World(processes.rank(), processes.size())
    finally:
        dist.destroy_process_group()  # which is also how the others notice


@contextmanager
def reached() -> Iterator[None]:
    """Turn what is raised because another process cannot be reached into one line that says why."""
    try:
        yield
    except RuntimeError as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun's, which would cut short how this one ends
        raise RunError(f"{processes.why_lost()}; resume= goes on from the last checkpoint") from error


def derived_seed(*parts: int) -> int:
    """A seed of 32 bits for a process (and a moment), which no other has."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def join_columns(parts: list[Any]) -> Any:
    """Join nested states [B, *] of neighbouring columns; what is no tensor is the same in all."""
    if not parts:
        return None
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(parts)
    return [join_columns(list(items)) for items in zip(*parts, strict=True)] if isinstance(first, list) else first


def add(values: Iterable[Any]) -> Any:
    """The sum of those that are not None; None if all are."""
    there = [value for value in values if value is not None]
    return reduce(lambda left, right: left + right, there) if there else None

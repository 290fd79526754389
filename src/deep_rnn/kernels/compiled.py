"""Backend ``compiled``: some steps of the loop as one program of torch.compile, on CUDA replayed as a CUDA graph.

The steps are those of ``loop``, whatever the cell. A program has a fixed number of them, the end of a sequence being
filled up with steps that are not valid, so that few programs serve every length, both directions, and all layers of a
kind.

CUDA graphs leave what they compute in memory of their own, which the next replay overwrites. A gradient that autograd
keeps there is lost when gradients are added up over several batches, and each chunk whose backward is still to come
would be recorded as one more graph. So nothing stays there: the forward keeps copies of its outputs and of the state
before each chunk; the backward computes a chunk again, takes its gradients at once, and copies them.
"""

from collections.abc import Callable, Mapping
from functools import cache, partial
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.utils._triton import has_triton

from deep_rnn.kernels import loop, zoneout
from deep_rnn.kernels.call import NO_STARTS, Call, Result
from deep_rnn.kernels.once import only_once
from deep_rnn.kernels.sequence import valid_steps
from deep_rnn.kernels.tracing import in_graph, transformed

STEPS = 16  # of a program: each adds to the time it compiles, and takes a share of what a replay costs off the others
COMPILER: dict[str, Any] = {"mode": "reduce-overhead"}  # by CUDA graphs; on the CPU it changes nothing


def why_not(call: Call) -> str | None:
    """Why compiled chunks cannot run this call, or None."""
    if len(call.layers) > 1:
        return "compiled chunks run one layer at a time"
    if call.starts is not None:
        return NO_STARTS
    if in_graph():
        return "compiled chunks call torch.compile or torch.export, one of which is at work already"
    if transformed() or forward_ad._current_level >= 0:
        return "compiled chunks cannot be transformed by torch.func, or differentiated forward"
    if call.recompute and torch.is_grad_enabled():
        return "compiled chunks recompute in chunks of their own"
    if call.x.shape[0] == 0 or call.x.shape[1] == 0:
        return "compiled chunks need at least one step and one sequence"
    if call.x.device.type not in ("cpu", "cuda"):
        return "compiled chunks run on the CPU and on CUDA"
    if call.x.is_cuda and not has_triton():
        return "torch.compile needs Triton, which is not installed or does not know this GPU"
    return None


def yields(call: Call) -> str | None:
    """Why ``auto`` passes this by although it can run: the CPU's compiler takes its time, and no GPU has measured it.

    ``python scripts/benchmark.py --only cuda`` does.
    """
    if call.x.is_cuda:
        return "compiled chunks are not measured on a GPU yet; backend=compiled asks for them"
    return "compiling a chunk takes seconds on the CPU; backend=compiled asks for it"


def run(call: Call) -> Result:
    """Unroll one layer in all its directions."""
    return loop.in_each_direction(call, unroll)


def unroll(call: Call, direction: int) -> tuple[Tensor, Any]:
    """Unroll one direction: outputs [T, B, H'] and the state where the sequence ends.

    The backward direction is the forward one over the sequence turned round: padding comes first then, as in the loop.

    Raises:
        RuntimeError: for a cell whose step is random.
    """
    cell, noise, state = call.layers[0][direction], call.noise(0, direction), call.states[0][direction]
    time, batch, _ = call.x.shape
    steps = min(STEPS, time)

    def laid_out(value: Tensor) -> Tensor:
        turned = value.flip(0) if direction else value
        return F.pad(turned, (0, 0) * (value.dim() - 1) + (0, -time % steps))

    refuse_draws(cell, call.x, state)
    lengths = call.x.new_full((batch,), time, dtype=torch.int64) if call.lengths is None else call.lengths
    zones = zoneout.draw(call, 0, direction)
    weights: Mapping[str, Tensor] = (noise.weights if noise is not None else None) or {}
    task = Task(
        cell,
        noise if noise is None else noise._replace(weights=None),
        tuple(weights),
        call.zoneout,
        laid_out(valid_steps(lengths, time)),
        None if zones is None else tuple(None if zone is None else laid_out(zone) for zone in zones),
        steps,
    )
    first = [field.contiguous() for field in state]
    outputs, *ended = Unroll.apply(task, laid_out(call.x), *first, *weights.values(), *cell.parameters())
    outputs = outputs[:time]
    return outputs.flip(0) if direction else outputs, type(state)(*ended)


class Task(NamedTuple):
    """What one direction of a layer computes with, beside what it is differentiated by."""

    cell: Any
    noise: Any  # without the weights, which are differentiated
    dropped: tuple[str, ...]  # names of the weights that weight drop replaces
    rates: tuple[float, ...]  # of zoneout
    valid: Tensor  # bool [T, B]
    zones: zoneout.Zones | None
    steps: int  # of a chunk, which divide T

    def chunk(self, start: int, x: Tensor, state: list[Tensor], dropped: list[Tensor]) -> tuple[Tensor, ...]:
        """The chunk that begins at a step, x [S, B, I]: outputs [S, B, H'] and the state after it.

        On CUDA they lie where the next replay writes.
        """
        part, noise = slice(start, start + self.steps), self.noise
        # Copies, each of which begins where its memory does: programs are made for where a tensor begins in it.
        valid = self.valid[part].clone()
        zones = self.zones and tuple(None if zone is None else zone[part].clone() for zone in self.zones)
        if self.dropped:
            noise = noise._replace(weights=dict(zip(self.dropped, dropped, strict=True)))
        kind = (
            type(self.cell),
            constants(self.cell),
            None if noise is None else (noise.state is None, noise.candidate is None, self.dropped),
            None if zones is None else tuple(zone is None for zone in zones),
            (self.rates, self.steps, torch.is_grad_enabled()),
            (x.shape[-1], x.dtype, x.device),
        )
        return program(kind)(self.cell, noise, self.rates, x, valid, zones, *state)


class Unroll(torch.autograd.Function):
    """All chunks of one direction as one node of the graph.

    Takes a task, x [T, B, I], the fields of the first state, the dropped weights, and the cell's parameters. Gives the
    outputs [T, B, H'] and the fields of the last state.
    """

    @staticmethod
    def forward(ctx: Any, task: Task, x: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        fields = len(task.cell.State._fields)
        state, weights = [field.detach() for field in tensors[:fields]], tensors[fields:]
        dropped = [weight.detach() for weight in weights[: len(task.dropped)]]
        outputs, befores = [], []
        for start, part in enumerate(x.split(task.steps)):
            befores += state
            results = task.chunk(start * task.steps, part.clone(), state, dropped)
            output, *state = [result.clone() for result in results]
            outputs.append(output)
        device = x.device.type
        ctx.autocast = device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
        ctx.task, ctx.counts = task, [len(weights), *[fields] * len(outputs)]
        ctx.save_for_backward(x, *weights, *befores)
        return torch.cat(outputs), *state

    @staticmethod
    def backward(ctx: Any, d_outputs: Tensor, *d_last: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, the first state and all weights, chunk by chunk from the last to the first."""
        task, (x, *saved) = ctx.task, ctx.saved_tensors
        saved = iter(saved)
        weights, *befores = [[next(saved) for _ in range(count)] for count in ctx.counts]
        refuse_exchanged(task.cell, weights[len(task.dropped) :])
        d_state: list[Tensor | None] = list(d_last)
        d_parts: list[Tensor] = []
        d_weights: list[Tensor | None] = [None] * len(weights)
        starts = range(0, len(x), task.steps)
        parts = zip(starts, x.split(task.steps), befores, d_outputs.split(task.steps), strict=True)
        with torch.no_grad(), torch.autocast(*ctx.autocast):
            for start, part, before, d_output in reversed(list(parts)):
                part = part.clone().requires_grad_(ctx.needs_input_grad[1])
                d_part, *found = differentiate(task, start, part, before, weights, [d_output, *d_state])
                d_parts += [] if d_part is None else [d_part]
                d_state = found[: len(before)]
                d_weights = [add(*pair) for pair in zip(d_weights, found[len(before) :], strict=True)]
        d_x = torch.cat(d_parts[::-1]) if d_parts else None
        return None, *only_once("compiled", [d_x, *d_state, *d_weights], [x, *weights, *befores[0], d_outputs, *d_last])


def differentiate(
    task: Task, start: int, x: Tensor, state: list[Tensor], weights: list[Tensor], d_results: list[Tensor | None]
) -> list[Tensor | None]:
    """A chunk computed again, and copies of its gradients by x, the state before it, and the weights."""
    count = len(task.dropped)
    state = [field.detach().requires_grad_() for field in state]
    dropped = [weight.detach().requires_grad_(weight.requires_grad) for weight in weights[:count]]
    leaves = [x, *state, *dropped, *weights[count:]]
    with torch.enable_grad():
        results = task.chunk(start, x, state, dropped)
    pairs = [(one, d) for one, d in zip(results, d_results, strict=True) if one.requires_grad and d is not None]
    given, d_given = zip(*pairs, strict=True)
    asked = [leaf for leaf in leaves if leaf.requires_grad]
    found = iter(torch.autograd.grad(given, asked, d_given, allow_unused=True))
    gradients = [next(found) if leaf.requires_grad else None for leaf in leaves]
    return [None if gradient is None else gradient.clone() for gradient in gradients]


def add(total: Tensor | None, gradient: Tensor | None) -> Tensor | None:
    """The sum of two gradients of which either may be missing, in place of the first."""
    if total is None or gradient is None:
        return gradient if total is None else total
    return total.add_(gradient)


def chunk_of_steps(
    cell: Any,
    noise: Any,
    rates: tuple[float, ...],
    x: Tensor,
    valid: Tensor,
    zones: zoneout.Zones | None,
    *state: Tensor,
) -> tuple[Tensor, ...]:
    """The loop over some steps, from tensors to tensors: what is compiled."""
    call = Call(((cell,),), x, (), noises=((noise,),), zoneout=rates)
    outputs, after = loop.unroll_chunk(call, 0, x, valid, zones, cell.State(*state))
    return outputs, *after


@cache
def program(kind: tuple[Any, ...]) -> Callable[..., tuple[Tensor, ...]]:
    """``chunk_of_steps`` compiled for one kind of chunk; a second batch size compiles it once more, for any size.

    torch.compile counts what it compiled by code object and refuses to go beyond a few, so each kind has its own.
    """
    own = FunctionType(chunk_of_steps.__code__.replace(), globals(), chunk_of_steps.__name__)
    return torch.compile(own, fullgraph=True, **COMPILER)


def constants(cell: Any) -> tuple[tuple[str, Any], ...]:
    """What a cell's equations are told by plain attributes: its sizes, rates and switches."""
    told = (item for item in vars(cell).items() if not item[0].startswith("_"))
    return tuple(item for item in told if isinstance(item[1], bool | int | float | str))


PURE: set[tuple[type, bool]] = set()
"""Cells, in training or not, whose step was seen to draw no random numbers."""


def refuse_draws(cell: Any, x: Tensor, state: Any) -> None:
    """Refuse a cell whose own step is random: computed again in the backward, it would be another one.

    Raises:
        RuntimeError: it draws.
    """
    kind = type(cell), cell.training
    if kind in PURE:
        return
    generator = partial(torch.cuda.get_rng_state, x.device) if x.is_cuda else torch.get_rng_state
    before = generator()
    with torch.no_grad():
        cell.step(cell.project(x[:1])[0], state)
    if not torch.equal(before, generator()):
        raise RuntimeError(f"{kind[0].__name__}.step is random, and backend=compiled runs it twice; use backend=loop")
    PURE.add(kind)


def refuse_exchanged(cell: Any, weights: list[Tensor]) -> None:
    """Refuse to differentiate by weights that are no longer the cell's, such as those of ``functional_call``.

    Raises:
        RuntimeError: they were exchanged after the forward.
    """
    if not all(map(Tensor.is_set_to, weights, cell.parameters())):
        raise RuntimeError(
            f"{type(cell).__name__} has other weights than in its forward, which backend=compiled runs again; "
            "use backend=loop"
        )

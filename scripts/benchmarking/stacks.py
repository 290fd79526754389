"""The contestants in torch: torch.nn's own stack, the same under torch.compile, and DeepRNN on each backend."""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from benchmarking.cases import VOCABULARY, Case
from benchmarking.counting import HEAD_OUTPUTS
from benchmarking.timing import Call
from deep_rnn import DeepRNN
from deep_rnn.kernels import BACKENDS

TORCH = "torch.nn"
COMPILED = "torch.compile"
TORCH_LAYERS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}

Run = Callable[[Tensor], Tensor]  # x [T, B, I] -> outputs


class TorchStack(nn.Module):
    """DeepRNN's plain stack in torch.nn: one module where all layers are as wide, else one a layer, same weights."""

    def __init__(self, ours: DeepRNN, case: Case) -> None:
        super().__init__()
        make, both = TORCH_LAYERS[case.cell], case.both_ways
        runs = [len(case.widths)] if len(set(case.widths)) == 1 else [1] * len(case.widths)
        self.parts = nn.ModuleList()
        first, size = 0, case.input_size
        for count in runs:
            part = make(size, case.widths[first], count, bidirectional=both)
            for layer, direction in itertools.product(range(count), range(1 + both)):
                for name, weight in ours.layers[first + layer].cells[direction].named_parameters():
                    getattr(part, f"{name}_l{layer}{'_reverse' * direction}").data.copy_(weight.detach())
            self.parts.append(part)
            first, size = first + count, (1 + both) * case.widths[first]

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Any:
        """Outputs [T, B, F], or those of the valid steps one after another where lengths vary."""
        read: Any = x if lengths is None else pack_padded_sequence(x, lengths, enforce_sorted=False)
        for part in self.parts:
            read, _ = part(read)
        return read.data if isinstance(read, PackedSequence) else read


class Trained(nn.Module):
    """Embedding, stack, and a head on the last output: what a whole training step trains."""

    def __init__(self, stack: Callable[[Tensor], Tensor], case: Case) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, case.input_size)
        self.stack = stack
        self.head = nn.Linear((1 + case.both_ways) * case.widths[-1], HEAD_OUTPUTS)

    def forward(self, ids: Tensor) -> Tensor:
        """ids [T, B] -> logits [B]."""
        return self.head(self.stack(self.embedding(ids))[-1])[:, 0]


class Ours(nn.Module):
    """DeepRNN as torch.nn's stack is called here: outputs only."""

    def __init__(self, rnn: DeepRNN) -> None:
        super().__init__()
        self.rnn = rnn

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Outputs [T, B, F]."""
        return self.rnn(x, lengths=lengths)[0]


def stack_of(case: Case) -> DeepRNN:
    """The case's stack with the weights that all contestants get."""
    torch.manual_seed(0)
    return DeepRNN(case.input_size, list(case.widths), len(case.widths), case.cell, bidirectional=case.both_ways)


def inputs_of(case: Case) -> Tensor:
    """x [T, B, I], the same for all contestants."""
    return torch.randn(case.time, case.batch, case.input_size, generator=torch.Generator().manual_seed(1))


def ids_of(case: Case) -> tuple[Tensor, Tensor]:
    """Token ids [T, B] and labels [B] of a training step, the same for all contestants."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1, VOCABULARY, (case.time, case.batch), generator=generator)
    return ids, torch.randint(0, 2, (case.batch,), generator=generator).float()


def backends_of(case: Case) -> list[str]:
    """``auto``, and every backend that can run the case; ``compiled`` belongs on a GPU (section ``cuda``)."""
    ours, x, able = stack_of(case), inputs_of(case), []
    for backend in [name for name in BACKENDS if name != "compiled"]:
        ours.backend = backend
        try:
            ours.explain(x, case.lengths())
        except ValueError:
            continue
        able.append(backend)
    return ["auto", *able]


def picked(case: Case) -> str:
    """The backend that ``auto`` takes for a case."""
    ours = stack_of(case)
    with torch.set_grad_enabled(case.what != "forward"):
        line = ours.explain(inputs_of(case), case.lengths()).splitlines()[-1]
    return line.partition(": ")[2].split(" ")[0]


def torch_call(case: Case, name: str) -> Call:
    """What is timed of one contestant: ``torch.nn``, ``torch.compile``, or a backend of DeepRNN."""
    ours = stack_of(case)
    if name in (TORCH, COMPILED):
        stack: nn.Module = TorchStack(ours, case)
    else:
        ours.backend = name
        stack = Ours(ours)
    if case.what == "training step":
        return training_step(stack, case, compiled=name == COMPILED)
    if name == COMPILED:
        stack.compile()
    return forward_or_backward(stack, case)


def forward_or_backward(stack: nn.Module, case: Case) -> Call:
    """Forward, and backward from a gradient of every output to x and all weights."""
    lengths, x = case.lengths(), inputs_of(case)
    if case.what == "forward":

        def forward() -> None:
            with torch.no_grad():
                stack(x, lengths)

        return forward
    x.requires_grad_()
    grad = torch.ones_like(stack(x, lengths))

    def both() -> None:
        stack(x, lengths).backward(grad)
        x.grad = None
        stack.zero_grad(set_to_none=True)

    return both


def training_step(stack: nn.Module, case: Case, compiled: bool) -> Call:
    """Embedding, stack, head, loss, backward, clipping and fused Adam."""
    torch.manual_seed(0)
    model, (ids, labels) = Trained(stack, case), ids_of(case)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    if compiled:
        model.compile()

    def step() -> None:
        loss = nn.functional.binary_cross_entropy_with_logits(model(ids), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def outputs(case: Case, name: str) -> Tensor:
    """What a contestant computes, [T, B, F]: they must agree before they race."""
    ours, x, lengths = stack_of(case), inputs_of(case), case.lengths()
    with torch.no_grad():
        if name not in (TORCH, COMPILED):
            ours.backend = name
            return ours(x, lengths=lengths)[0]
        if lengths is None:
            return TorchStack(ours, case)(x)
        packed = TorchStack(ours, case).parts[0](pack_padded_sequence(x, lengths, enforce_sorted=False))[0]
        return pad_packed_sequence(packed, total_length=case.time)[0]

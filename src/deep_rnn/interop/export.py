"""A stack as a graph without Python: torch.export and ONNX, with batch and time left open.

While it is exported, a stack runs through torch's scan operator (``deep_rnn.kernels.scan``): the graph holds one step
of each layer and takes any number of them, where a Python loop and torch's own layers would fix the number.
"""

from pathlib import Path
from typing import Any

import torch
from torch.export import Dim, ExportedProgram, export

from deep_rnn.interop.used import baked
from deep_rnn.stack import DeepRNN
from deep_rnn.state import is_pair, map_state

EXAMPLE_TIME, EXAMPLE_BATCH = 3, 2  # sizes of what the graph is traced with; 0 and 1 would be taken for fixed


def export_program(rnn: DeepRNN, *, state: bool = False, lengths: bool = False) -> ExportedProgram:
    """The stack in evaluation as a ``torch.export`` program: ``program.module()(x=x, state=state, lengths=lengths)``.

    Args:
        rnn: in evaluation mode, with backend auto or scan.
        state: whether the graph takes the state before the first step; else it is ``rnn.initial_state``.
        lengths: whether it takes lengths [B], int64; nothing checks their values.
    Raises:
        ValueError: for a stack in training mode, or a backend that fixes the number of steps.
    """
    if rnn.training:
        raise ValueError("a stack is exported as it is evaluated: call eval() first")
    if rnn.backend not in ("auto", "scan"):
        raise ValueError(f"backend={rnn.backend} would fix the number of steps in the graph; export with backend=auto")
    rnn = baked(rnn)
    arguments, dimensions = example(rnn, state, lengths)
    with torch.no_grad():
        return export(rnn, (), arguments, dynamic_shapes=dimensions)


def export_onnx(rnn: DeepRNN, path: str | Path, *, state: bool = False, lengths: bool = False) -> None:
    """Write the stack in evaluation as an ONNX file; needs the packages onnx and onnxscript.

    Its inputs are ``x`` and, if asked for, the state (``state_0_h``: layer 0, field h; ``state_0_forward_h`` when
    bidirectional) and ``lengths``. Its outputs are ``output`` and the state after the last valid step, under the same
    names with ``next_`` before them.

    Args and errors: as ``export_program``.
    """
    program = export_program(rnn, state=state, lengths=lengths)
    states = state_names(rnn)
    with torch.no_grad():  # else the scan operator is asked for its backward, which the ONNX exporter trips over
        onnx = torch.onnx.export(
            program,
            dynamo=True,
            input_names=["x", *(states if state else []), *(["lengths"] if lengths else [])],
            output_names=["output", *(f"next_{name}" for name in states)],
            dynamic_shapes=example(rnn, state, lengths)[1],  # for the names of the open dimensions
            verbose=False,
        )
    assert onnx is not None  # it is where dynamo=True
    onnx.save(path)


def example(rnn: DeepRNN, state: bool, lengths: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments to trace a stack with, and which of their dimensions are open."""
    time, batch = Dim("time"), Dim("batch")
    x = next(rnn.parameters()).new_zeros(EXAMPLE_TIME, EXAMPLE_BATCH, rnn.input_size)
    arguments: dict[str, Any] = {"x": rnn.time_major(x)}
    dimensions: dict[str, Any] = {"x": {0: batch, 1: time} if rnn.batch_first else {0: time, 1: batch}}
    if state:
        arguments["state"] = rnn.initial_state(EXAMPLE_BATCH)
        dimensions["state"] = [map_state(lambda _: {0: batch}, entry) for entry in arguments["state"].layers]
    if lengths:
        arguments["lengths"] = torch.full((EXAMPLE_BATCH,), EXAMPLE_TIME, device=x.device)
        dimensions["lengths"] = {0: batch}
    return arguments, dimensions


def state_names(rnn: DeepRNN) -> list[str]:
    """A name for each tensor of the stack's state, in the order in which the state holds them."""
    names: list[str] = []
    for index, entry in enumerate(rnn.initial_state(1).layers):
        ways = {"_forward": entry[0], "_backward": entry[1]} if is_pair(entry) else {"": entry}
        names += [f"state_{index}{way}_{field}" for way, one in ways.items() for field in one._fields]
    return names

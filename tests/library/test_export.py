"""A stack leaves Python as a graph that takes any number of steps and sequences: torch.export, ONNX."""

import re

import onnxruntime
import pytest
import torch
from torch.export import Dim
from torch.utils._pytree import tree_leaves, tree_map

from deep_rnn import CELLS, DeepRNN
from deep_rnn.interop.export import export_onnx, export_program, state_names
from src.modules.sequence import SequenceModel

INPUT, HIDDEN = 4, 4
LENGTHS = torch.tensor([9, 0, 1, 2, 5])
EXACT = {"rtol": 0.0, "atol": 1e-12}  # float64
STACKS = {
    "lstm": {"cell": "lstm"},
    "reset before, highway, batch first": {"cell": "gru", "reset_after": False, "link": "highway", "batch_first": True},
    "both ways": {"cell": "gru", "bidirectional": True, "merge": "sum"},
    "mixed cells, dense, learned state": {"cell": ["rnn", "peephole"], "link": "dense", "learn_state": True},
    "zoneout, norm": {"cell": "mgu", "zoneout": 0.2, "norm": "layer", "link": "residual"},
}


def stack(num_layers=2, **options):
    """A stack in evaluation, in float64."""
    torch.manual_seed(0)
    return DeepRNN(INPUT, HIDDEN, num_layers, dtype=torch.double, **options).eval()


def inputs(rnn, time, batch):
    """x and a state that is not the initial one."""
    x = torch.randn(time, batch, INPUT, dtype=torch.double)
    return rnn.time_major(x), tree_map(torch.randn_like, rnn.initial_state(batch))


@pytest.mark.parametrize("name", ["both ways", "mixed cells, dense, learned state", "zoneout, norm"])
def test_an_exported_program_takes_other_times_and_batches(name):
    rnn = stack(**STACKS[name])
    exported = export_program(rnn, state=True, lengths=True)
    loops = [node for node in exported.graph.nodes if node.op == "call_function" and "scan" in str(node.target)]
    assert len(loops) == sum(len(layer.cells) for layer in rnn.layers)  # one step a cell, however long the sequence
    program = exported.module()
    for lengths in (LENGTHS, torch.tensor([1])):
        x, state = inputs(rnn, int(lengths.max()), len(lengths))
        found = program(x=x, state=state, lengths=lengths)
        torch.testing.assert_close(tree_leaves(found), tree_leaves(rnn(x, state, lengths)), **EXACT)


@pytest.mark.parametrize("name", ["lstm", "reset before, highway, batch first", "both ways"])
def test_onnxruntime_computes_what_the_stack_computes(name, tmp_path):
    rnn = stack(**STACKS[name])
    export_onnx(rnn, tmp_path / "rnn.onnx", state=True, lengths=True)
    check_onnx(rnn, tmp_path / "rnn.onnx")


def check_onnx(rnn, path, tolerance=1e-12):
    """Compare at a time and batch that the graph was not traced with."""
    session = onnxruntime.InferenceSession(path)
    names = state_names(rnn)
    assert [one.name for one in session.get_inputs()] == ["x", *names, "lengths"]
    assert [one.name for one in session.get_outputs()] == ["output", *(f"next_{name}" for name in names)]
    assert session.get_inputs()[0].shape == (["batch", "time", INPUT] if rnn.batch_first else ["time", "batch", INPUT])
    x, state = inputs(rnn, 9, len(LENGTHS))
    tensors = zip(["x", *names, "lengths"], [x, *tree_leaves(state), LENGTHS], strict=True)
    found = session.run(None, {name: tensor.numpy() for name, tensor in tensors})
    expected = tree_leaves(rnn(x, state, LENGTHS))
    torch.testing.assert_close([torch.from_numpy(array) for array in found], expected, rtol=0, atol=tolerance)


def test_onnx_in_float32_with_x_alone(tmp_path):
    rnn = stack(1, cell="lstm").float()
    export_onnx(rnn, tmp_path / "rnn.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "rnn.onnx")
    for time, batch in ((40, 3), (1, 1)):
        x = torch.randn(time, batch, INPUT)
        output, *_ = session.run(None, {"x": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(output), rnn(x)[0], rtol=0, atol=1e-6)


@pytest.mark.slow
def test_every_cell_goes_to_onnx(tmp_path):
    rnn = stack(len(CELLS), cell=list(CELLS), link="residual")
    export_onnx(rnn, tmp_path / "rnn.onnx", state=True, lengths=True)
    check_onnx(rnn, tmp_path / "rnn.onnx", tolerance=1e-6)  # the exporter rounds coRNN's dt and the like to float32


def test_a_classifier_is_exported_with_its_stack():
    torch.manual_seed(0)
    rnn = DeepRNN(INPUT, HIDDEN, 1, "gru", bidirectional=True)
    model = SequenceModel(20, 3, INPUT, rnn, pooling="max+mean+attention").eval()
    time, batch = Dim("time"), Dim("batch")
    example = (torch.ones(3, 2, dtype=torch.int64), torch.tensor([3, 2]))
    program = torch.export.export(model, example, dynamic_shapes=({0: time, 1: batch}, {0: batch})).module()
    ids = torch.randint(0, 20, (9, 5))
    torch.testing.assert_close(program(ids, LENGTHS), model(ids, LENGTHS), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "options, message",
    [({"backend": "loop"}, "backend=loop would fix the number of steps"), ({}, "call eval() first")],
)
def test_what_cannot_be_exported_is_said(options, message):
    rnn = DeepRNN(INPUT, HIDDEN, **options)
    with pytest.raises(ValueError, match=re.escape(message)):
        export_program(rnn.eval() if options else rnn)


def test_drawing_zoneout_cannot_be_exported():
    rnn = DeepRNN(INPUT, HIDDEN, zoneout=0.1)  # in training, past the helper
    with pytest.raises(ValueError, match=r"no backend can run this: not scan: .* zoneout draws each step"):
        torch.export.export(rnn, (torch.randn(3, 2, INPUT),))


def test_scan_refuses_to_run_outside_a_graph():
    with pytest.raises(ValueError, match=r"backend=scan cannot run this: .*belongs in a graph"):
        DeepRNN(INPUT, HIDDEN, backend="scan")(torch.randn(3, 2, INPUT))

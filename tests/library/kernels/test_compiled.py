"""Compiled chunks compute what the loop computes, and nothing of theirs stays where a CUDA graph would overwrite it.

Most tests trace and differentiate the programs without generating code (``aot_eager``), which takes seconds less.
"""

import pytest
import torch
from torch.utils._pytree import tree_leaves

from deep_rnn import DeepRNN
from deep_rnn.cells import NO_NOISE, Cell, HiddenState
from deep_rnn.kernels import compiled

TIME, BATCH, SIZE = 5, 3, 4
LENGTHS = [5, 0, 3]
NOISE = {"zoneout": 0.3, "weight_drop": 0.2, "recurrent_dropout": 0.2, "candidate_dropout": 0.2}


class Leaky(Cell):
    """A user's own cell: h' = (1 - leak) h + leak tanh(W x + U h + b)."""

    gates = ("g",)
    leak = 0.3

    def step(self, gates, state, noise=NO_NOISE):
        return HiddenState((1 - self.leak) * state.h + self.leak * torch.tanh(gates + self.recurrent(state.h, noise)))


class Restless(Leaky):
    """Whose step is random by itself."""

    def step(self, gates, state, noise=NO_NOISE):
        return super().step(torch.dropout(gates, 0.5, self.training), state)


STACKS = {
    "slstm": {"cell": "slstm", "heads": 2},
    "lstmp": {"cell": "lstmp", "proj_size": 3, "bidirectional": True},
    "rhn": {"cell": "rhn", "transition_depth": 2, "zoneout": 0.2},
    "own cell": {"cell": Leaky, "bidirectional": True, "num_layers": 2, "link": "residual"},
    "learned state": {"cell": "gru", "layer_norm": True, "learn_state": True},
}


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
    """Chunks of two steps, compiled anew in each test."""
    monkeypatch.setattr(compiled, "STEPS", 2)
    monkeypatch.setattr(compiled, "COMPILER", {"backend": "aot_eager"})
    programs = compiled.program
    programs.cache_clear()
    torch._dynamo.reset()
    yield
    programs.cache_clear()


@pytest.fixture
def generated(monkeypatch):
    """Programs as users get them."""
    monkeypatch.setattr(compiled, "COMPILER", {"mode": "reduce-overhead"})


def stack(cell="slstm", num_layers=1, **options):
    torch.manual_seed(0)
    return DeepRNN(SIZE, SIZE, num_layers, cell, backend="compiled", **{"dtype": torch.double, **options})


def inputs(time=TIME, batch=BATCH, **options):
    return torch.randn(time, batch, SIZE, **{"dtype": torch.double, **options})


def outcome(rnn, x, **arguments):
    """Outputs, states and all gradients of a call that starts from a fixed seed."""
    torch.manual_seed(1)
    x = x.clone().requires_grad_()
    results = tree_leaves(rnn(x, **arguments))
    loss = sum(value.float().sin().sum() if value.dtype != torch.double else value.sin().sum() for value in results)
    return [*results, *torch.autograd.grad(loss, [x, *rnn.parameters()])]


def check(rnn, x, tolerance=1e-10, **arguments):
    """The same outcome as the loop's."""
    found, rnn.backend = outcome(rnn, x, **arguments), "loop"
    expected, rnn.backend = outcome(rnn, x, **arguments), "compiled"
    assert all(value.any() for value in expected)
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


def given_state(rnn):
    """A state to start from, one that sLSTM's normaliser can be in."""
    if rnn.bidirectional or rnn.layers[0].learns_state:
        return None
    return tuple(
        type(state)(*(torch.rand_like(field) + 1 for field in state)) for state in rnn.initial_state(BATCH).layers
    )


# --- the same as the loop ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STACKS)
def test_values_and_all_gradients_are_the_loops(name):
    rnn, x = stack(**STACKS[name]).eval(), inputs()
    check(rnn, x)
    check(rnn, x, lengths=LENGTHS)
    check(rnn, x, state=given_state(rnn), lengths=LENGTHS)


@pytest.mark.slow  # its compiler generates C++
@pytest.mark.parametrize("name", ["slstm", "lstmp", "own cell"])
@pytest.mark.usefixtures("generated")
def test_generated_code_computes_the_same(name):
    test_values_and_all_gradients_are_the_loops(name)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_in_training_it_draws_and_drops_what_the_loop_does(cell):
    rnn = stack(cell, bidirectional=True, dropout=[0.2], **NOISE)
    check(rnn, inputs(), lengths=LENGTHS)
    check(rnn, inputs(), lengths=LENGTHS, noise=rnn.draw_noise(BATCH))


def test_state_carried_on_from_chunk_to_chunk_equals_the_whole():
    rnn, x = stack("slstm"), inputs(time=7)
    whole, ended = rnn(x)
    state, outputs = None, []
    for part in x.split([3, 1, 3]):
        output, state = rnn(part, state)
        outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs), whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(tree_leaves(state), tree_leaves(ended), rtol=0, atol=1e-12)


def test_the_backward_is_under_the_forwards_autocast(monkeypatch):
    rnn, x, seen = stack("lem", dtype=torch.float), inputs(dtype=torch.float), []

    def chunk(*arguments):
        seen.append((torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")))
        return compiled.chunk_of_steps(*arguments)

    monkeypatch.setattr(compiled, "program", lambda kind: chunk)
    with torch.autocast("cpu", torch.float16):
        loss = rnn(x)[0].square().sum()
    loss.backward()
    assert seen == [(False, True, torch.float16)] * 3 + [(True, True, torch.float16)] * 3


@pytest.mark.parametrize("frozen", ["weights", "input"])
def test_what_is_frozen_gets_no_gradient(frozen):
    rnn, x = stack("rnn", bidirectional=True), inputs().requires_grad_(frozen == "weights")
    rnn.layers[0].cells[0].requires_grad_(frozen != "weights")
    rnn(x)[0].sum().backward()
    assert (x.grad is not None) == (frozen == "weights")
    kinds = [parameter.grad is not None for cell in rnn.layers[0].cells for parameter in cell.parameters()]
    assert kinds == [frozen == "input"] * (len(kinds) // 2) + [True] * (len(kinds) // 2)


# --- memory that is overwritten ---------------------------------------------------------------------------------------


class Graphs:
    """Stands for CUDA graphs: what a program gave, and its gradients, are overwritten as soon as another one runs."""

    def __init__(self):
        self.given, self.replays, self.grad = [], 0, torch.autograd.grad

    def gives(self, tensors):
        for tensor in self.given:
            tensor.data.fill_(torch.nan)
        self.given, self.replays = [tensor for tensor in tensors if tensor is not None], self.replays + 1
        return tensors

    def program(self, kind):
        return lambda *arguments: self.gives(compiled.chunk_of_steps(*arguments))

    def gradients(self, *arguments, **options):
        return self.gives([None if d is None else d.clone() for d in self.grad(*arguments, **options)])


def test_nothing_is_left_where_a_later_replay_writes(monkeypatch):
    rnn, others = stack("slstm", num_layers=2), [inputs(), inputs()]
    expected = {}
    for backend in ("loop", "compiled"):
        rnn.backend, graphs = backend, Graphs()
        rnn.zero_grad()
        with monkeypatch.context() as patched:
            patched.setattr(compiled, "program", graphs.program)
            patched.setattr(torch.autograd, "grad", graphs.gradients)
            results = [rnn(x, lengths=LENGTHS) for x in others]
            losses = [sum(value.sin().sum() for value in tree_leaves(result)) for result in results]
            losses[0].backward()
            with torch.no_grad():
                rnn(others[1])
            losses[1].backward()  # gradients add up over both
        expected[backend] = [*tree_leaves(results), *(parameter.grad for parameter in rnn.parameters())]
    assert graphs.replays > 30
    torch.testing.assert_close(expected["compiled"], expected["loop"], rtol=0, atol=1e-10)


# --- how much is compiled ---------------------------------------------------------------------------------------------


def test_layers_directions_and_lengths_of_a_kind_share_what_is_compiled():
    rnn = stack("mgu", num_layers=3, bidirectional=True, merge="sum")
    torch._dynamo.utils.counters.clear()
    outcome(rnn, inputs())
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2  # with gradients and without
    with torch.compiler.set_stance("fail_on_recompile"):
        start = tuple(
            tuple(type(one)(one.h + 0 * rnn.layers[0].cell.bias_ih[:SIZE]) for one in pair)
            for pair in rnn.initial_state(BATCH).layers
        )
        outcome(rnn, inputs(), state=start)
        for time in (2, 4, 9):
            outcome(rnn, inputs(time), lengths=[time, 1, 0])
        outcome(stack("mgu", num_layers=2), inputs())


def test_a_second_batch_size_is_compiled_for_all():
    rnn = stack("rnn")
    for size in (3, 5):
        outcome(rnn, inputs(batch=size))
    with torch.compiler.set_stance("fail_on_recompile"):
        outcome(rnn, inputs(batch=7))


def test_cells_of_many_sizes_do_not_reach_the_recompile_limit():
    for size in (1, 2, 3):
        with torch.no_grad(), torch._dynamo.config.patch(recompile_limit=1):
            DeepRNN(2, size, 1, "rnn", backend="compiled")(torch.zeros(2, 2, 2))


# --- what it cannot do ------------------------------------------------------------------------------------------------


def forward_mode(rnn, x):
    with torch.autograd.forward_ad.dual_level():
        rnn(torch.autograd.forward_ad.make_dual(x, x))


@pytest.mark.parametrize(
    "call, options, reason",
    [
        (lambda rnn, x: torch.compile(rnn, backend="eager", fullgraph=True)(x), {}, "one of which is at work already"),
        (lambda rnn, x: torch.func.vmap(rnn)(x[None]), {}, "cannot be transformed by torch.func"),
        (forward_mode, {}, "differentiated forward"),
        (lambda rnn, x: rnn(x), {"recompute": 2}, "recompute in chunks of their own"),
        (lambda rnn, x: rnn(x[:0]), {}, "at least one step and one sequence"),
        (lambda rnn, x: rnn(x[:, :0]), {}, "at least one step and one sequence"),
    ],
    ids=["torch.compile", "vmap", "forward mode", "recompute", "no steps", "no sequences"],
)
def test_what_it_cannot_do_is_refused_by_name(call, options, reason):
    with pytest.raises(Exception, match=rf"(?s)backend=compiled cannot run this: .*{reason}"):
        call(stack("gru", **options), inputs())


def test_a_second_derivative_is_refused():
    rnn, x = stack("gru"), inputs().requires_grad_()
    (d_x,) = torch.autograd.grad(rnn(x)[0].square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="backend=compiled has no second derivative; use backend=loop"):
        torch.autograd.grad(d_x.sum(), x)


def test_a_cell_whose_step_is_random_is_refused_where_it_is():
    rnn = stack(Restless)
    check(rnn.eval(), inputs())
    with pytest.raises(RuntimeError, match=r"Restless\.step is random, and backend=compiled runs it twice"):
        rnn.train()(inputs())


def test_weights_exchanged_before_the_backward_are_refused():
    rnn, x = stack("gru"), inputs()
    others = {name: torch.zeros_like(value).requires_grad_() for name, value in rnn.named_parameters()}
    output, _ = torch.func.functional_call(rnn, others, (x,))
    with pytest.raises(RuntimeError, match="other weights than in its forward"):
        output.sum().backward()


def test_auto_leaves_it_to_be_asked_for():
    assert "not compiled: compiling a chunk takes seconds on the CPU" in DeepRNN(3, 4, 1, "slstm").explain()
    assert stack("slstm").explain() == "layer 0: compiled (asked for)"


# --- on a GPU ---------------------------------------------------------------------------------------------------------

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
AMP = {"off": (torch.float32, 1e-5), "bf16": (torch.bfloat16, 2e-2), "fp16": (torch.float16, 2e-3)}


@pytest.mark.cuda
@needs_cuda
@pytest.mark.parametrize("amp", AMP)
@pytest.mark.parametrize("name", STACKS)
@pytest.mark.usefixtures("generated")
def test_on_cuda_it_equals_the_loop_by_replayed_graphs(name, amp):
    half, tolerance = AMP[amp]
    rnn = stack(**STACKS[name], dtype=torch.float, device="cuda")
    counters = torch._dynamo.utils.counters["inductor"]
    counters.clear()
    for time, batch in [(5, 3), (5, 3), (5, 3), (9, 3), (4, 2)]:  # warm-up, recording, replay, more chunks, a new size
        x = inputs(time, batch, dtype=torch.float, device="cuda")
        with torch.autocast("cuda", half, enabled=amp != "off"):
            check(rnn, x, tolerance, lengths=[time, *[1] * (batch - 1)])
    assert not counters["cudagraph_skips"]


@pytest.mark.cuda
@needs_cuda
@pytest.mark.usefixtures("generated")
def test_on_cuda_gradients_add_up_and_forwards_wait_for_their_backward():
    rnn = stack("slstm", num_layers=2, dtype=torch.float, device="cuda", **NOISE)
    others = [inputs(dtype=torch.float, device="cuda") for _ in range(3)]
    noise = rnn.draw_noise(BATCH)
    expected = {}
    for backend in ("loop", "compiled"):
        rnn.backend = backend
        for _ in range(3):  # the third time all graphs are replayed
            rnn.zero_grad()
            torch.manual_seed(0)
            results = [rnn(x, noise=noise, lengths=LENGTHS) for x in others]
            losses = [sum(value.sin().sum() for value in tree_leaves(result)) for result in results]
            losses[0].backward()
            with torch.no_grad():
                rnn(others[1])
            (losses[1] + losses[2]).backward()
        expected[backend] = [*tree_leaves(results), *(parameter.grad for parameter in rnn.parameters())]
    torch.testing.assert_close(expected["compiled"], expected["loop"], rtol=1e-4, atol=1e-5)


@pytest.mark.cuda
@needs_cuda
def test_on_cuda_auto_takes_cudnn_where_it_can_and_asks_before_compiling():
    assert DeepRNN(3, 4, 2, "gru", device="cuda").explain().startswith("layers 0-1 in one call: native")
    explained = DeepRNN(3, 4, 1, "slstm", device="cuda").explain()
    assert "loop" in explained and "not compiled: compiled chunks are not measured on a GPU yet" in explained

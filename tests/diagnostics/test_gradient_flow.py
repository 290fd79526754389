"""The gradient that is shown is the total one, of every layer and step, wherever a sequence ends."""

import pytest
import torch
from scenes import make_batch, make_scene

from deep_rnn import DeepRNN
from src.diagnostics.gradient_flow import measure


def test_it_is_the_total_derivative_by_the_state_through_layers_and_time():
    torch.manual_seed(0)
    rnn = DeepRNN(3, 4, 2, cell="rnn")
    scene = make_scene(rnn, make_batch(5, [5, 5], 3))
    flow, _ = measure(scene)
    batch = scene.probe_batch()
    # The same stack by hand, with a nought added to every state: the derivative by it is the one by the state.
    noughts = torch.zeros(2, 5, 2, 4, requires_grad=True)
    below = list(batch.inputs)
    for number, layer in enumerate(rnn.layers):
        cell, h, outputs = layer.cell, torch.zeros(2, 4), []
        for t, x in enumerate(below):
            product = x @ cell.weight_ih.T + cell.bias_ih + h @ cell.weight_hh.T + cell.bias_hh
            h = torch.tanh(product) + noughts[number, t]
            outputs.append(h)
        below = outputs
    scene.model.head(below[-1]).square().sum().backward()
    expected = noughts.grad.norm(dim=(2, 3)).flip(1)  # counted from the last step
    torch.testing.assert_close(flow.float(), expected, rtol=1e-5, atol=1e-8)


def test_it_is_counted_from_the_end_of_each_sequence_and_padding_adds_nothing():
    torch.manual_seed(0)
    rnn = DeepRNN(3, 4, 2, cell="gru")
    both = make_batch(6, [6, 4], 3)
    flow, _ = measure(make_scene(rnn, both))
    model = make_scene(rnn, both).model
    alone = []
    for column, length in enumerate([6, 4]):
        scene = make_scene(
            rnn, both._replace(inputs=both.inputs[:length, column : column + 1], lengths=torch.tensor([length]))
        )
        scene.model.load_state_dict(model.state_dict())
        alone.append(torch.nn.functional.pad(measure(scene)[0], (0, 6 - length)))
    joint, _ = measure(make_scene(rnn, both)._replace(model=model))
    torch.testing.assert_close(joint, (alone[0].square() + alone[1].square()).sqrt(), rtol=1e-5, atol=1e-9)
    assert (flow[:, :4] > 0).all()


@pytest.mark.parametrize("lengths", [[5, 5], [5, 2]])
def test_a_backward_direction_is_counted_from_the_step_at_which_it_ends(lengths):
    torch.manual_seed(0)
    layerwise = DeepRNN(3, 4, 1, cell="lstm", bidirectional=True)
    stacks = DeepRNN(3, 4, 1, cell="lstm", bidirectional="stacks")
    stacks.layers[0].cells[0].load_state_dict(layerwise.layers[0].cells[0].state_dict())
    stacks.mirror.layers[0].cells[0].load_state_dict(layerwise.layers[0].cells[1].state_dict())
    batch = make_batch(5, lengths, 3)
    one, two = make_scene(layerwise, batch), make_scene(stacks, batch)
    two.model.head.load_state_dict(one.model.head.state_dict())
    # The head reads the last step only, at which the backward direction begins: the rest of it gets no gradient.
    flow, parts = measure(one)
    torch.testing.assert_close(flow, measure(two)[0])
    assert (flow[0] > 0).sum() == max(lengths) and [i for i, v in enumerate(flow[1]) if v > 0] == sorted(
        {length - 1 for length in lengths}
    )
    assert parts.keys() == {"layer_0", "head"}


def test_a_plain_tanh_stack_of_small_weights_loses_the_gradient_and_a_residual_one_keeps_it():
    flows = {}
    for link in ("none", "residual"):
        torch.manual_seed(0)
        rnn = DeepRNN(8, 8, 8, cell="rnn", link=link)
        with torch.no_grad():
            for weight in rnn.parameters():
                weight.mul_(0.3)
        flows[link] = measure(make_scene(rnn, make_batch(4, [4, 4], 8)))[0][:, 0]
    assert flows["none"][0] < 1e-3 * flows["none"][-1]
    assert flows["residual"][0] > 0.3 * flows["residual"][-1]


def test_levels_that_are_frozen_for_now_are_measured_all_the_same_and_stay_frozen():
    torch.manual_seed(0)
    rnn = DeepRNN(3, 4, 2, cell="lstm")
    scene = make_scene(rnn, make_batch(5, [5, 3], 3))
    expected = measure(scene)
    for weight in rnn.parameters():
        weight.requires_grad_(False)
    flow, parts = measure(scene)
    torch.testing.assert_close(flow, expected[0])
    assert parts == pytest.approx(expected[1]) and parts.keys() == {"layer_0", "layer_1", "head"}
    assert not any(weight.requires_grad for weight in rnn.parameters())


@pytest.mark.parametrize(
    "options", [{"cell": "lem"}, {"cell": "lstmp", "proj_size": 2}, {"link": "highway", "recompute": 2}]
)
def test_any_cell_and_link_shows_a_gradient_in_every_layer_and_is_left_as_it_was(options):
    torch.manual_seed(0)
    rnn = DeepRNN(3, 4, 3, **{"cell": "gru", "dropout": 0.5, **options}).train()
    scene = make_scene(rnn, make_batch(5, [5, 3], 3))
    before = torch.get_rng_state()
    flow, _ = measure(scene)
    assert flow.shape == (3, 5) and (flow > 0).all()
    assert torch.equal(torch.get_rng_state(), before) and rnn.training
    assert rnn.backend == "auto" and rnn.recompute == options.get("recompute")
    assert all(weight.grad is None for weight in rnn.parameters())
    assert all("step" not in vars(cell) for layer in rnn.layers for cell in layer.cells)

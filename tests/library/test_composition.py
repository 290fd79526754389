"""Every option composes with every other: stacks drawn at random build, train, and equal themselves in chunks."""

import warnings

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils._pytree import tree_leaves

from deep_rnn import CELLS, DeepRNN
from deep_rnn.init import INITS
from deep_rnn.layer import MERGES
from deep_rnn.links import LINKS
from deep_rnn.norms import NORMS, PLACES

EXACT = {"rtol": 1e-9, "atol": 1e-10}  # float64; deep stacks with relu-like cells may grow, hence a relative part
WIDTHS = st.sampled_from([2, 4, 6])  # even: sLSTM's two heads and everything else can have them


@st.composite
def stacks(draw):
    """Arguments of a DeepRNN, with options that its cells have."""
    num_layers = draw(st.integers(1, 3))
    cells = draw(st.lists(st.sampled_from(sorted(CELLS)), min_size=num_layers, max_size=num_layers))
    probes = [CELLS[cell](1, 2) for cell in cells]
    arguments = {
        "input_size": draw(st.integers(1, 4)),
        "hidden_size": draw(st.lists(WIDTHS, min_size=num_layers, max_size=num_layers)),
        "num_layers": num_layers,
        "cell": cells,
        "link": draw(st.sampled_from(sorted(LINKS))),
        "bidirectional": draw(st.sampled_from([False, False, True, "stacks"])),
        "merge": draw(st.sampled_from(MERGES)),
        "dropout": draw(st.sampled_from([0.0, 0.4])),
        "locked_dropout": draw(st.booleans()),
        "zoneout": draw(st.sampled_from([0.0, 0.3])),
        "norm": draw(st.sampled_from(sorted(NORMS))),
        "norm_place": draw(st.sampled_from(PLACES)),
        "bias": draw(st.booleans()),
        "init": draw(st.sampled_from(sorted(INITS))),
        "link_start": draw(st.integers(0, 1)),
        "learn_state": draw(st.booleans()),
        "recompute": draw(st.sampled_from([None, None, 2])),
    }
    if all("state" in cell.noises for cell in probes):
        arguments["recurrent_dropout"] = draw(st.sampled_from([0.0, 0.3]))
    if all("candidate" in cell.noises for cell in probes):
        arguments["candidate_dropout"] = draw(st.sampled_from([0.0, 0.3]))
    if all(cell.recurrent_weights for cell in probes):
        arguments["weight_drop"] = draw(st.sampled_from([0.0, 0.3]))
    return arguments


def check_training(rnn, x, lengths):
    """Forward and backward in training: finite gradients, to every parameter."""
    output, state = rnn.train()(x, lengths=lengths)
    loss = output.square().mean() + sum(leaf.square().mean() for leaf in tree_leaves(state))
    gradients = torch.autograd.grad(loss, list(rnn.parameters()), allow_unused=True)
    missing = [name for (name, _), found in zip(rnn.named_parameters(), gradients, strict=True) if found is None]
    assert not missing
    assert all(gradient.isfinite().all() for gradient in gradients)


def check_chunks(rnn, x, cut):
    """Two chunks with carried state equal the whole."""
    whole, state = rnn(x)
    first, carried = rnn(x[:cut])
    second, ended = rnn(x[cut:], carried)
    torch.testing.assert_close(torch.cat((first, second)), whole, **EXACT)
    torch.testing.assert_close(tree_leaves(ended), tree_leaves(state), **EXACT)


def check_padding(rnn, x, lengths):
    """Every sequence of a padded batch equals itself alone, and padded outputs are zero."""
    output, state = rnn(x, lengths=lengths)
    for k, length in enumerate(lengths):
        alone, ended = rnn(x[:length, k : k + 1])
        torch.testing.assert_close(output[:length, k : k + 1], alone, **EXACT)
        torch.testing.assert_close([leaf[k : k + 1] for leaf in tree_leaves(state)], tree_leaves(ended), **EXACT)
        assert not output[length:, k].any()


@settings(max_examples=500, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(arguments=stacks(), lengths=st.lists(st.integers(0, 5), min_size=1, max_size=3), cut=st.integers(0, 5))
def test_any_composition_trains_and_equals_itself_in_chunks(arguments, lengths, cut):
    torch.manual_seed(0)
    rnn = DeepRNN(**arguments, dtype=torch.double)
    x = torch.randn(5, len(lengths), rnn.input_size, dtype=torch.double)
    check_training(rnn, x, lengths)
    rnn.eval()
    with torch.no_grad(), warnings.catch_warnings():
        if not rnn.bidirectional:
            check_chunks(rnn, x, cut)
        check_padding(rnn, x, lengths)

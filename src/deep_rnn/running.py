"""One forward call of a stack on a time-major batch: all its layers in one call of a backend, or one after another."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from deep_rnn import state as states_of
from deep_rnn.dropout import LayerNoise, drop_outputs, select_sequences
from deep_rnn.episodes import Episodes, begin_inside, cut
from deep_rnn.inputs import checked_input, checked_lengths, weights_dtype
from deep_rnn.kernels import BACKENDS, Call, unroll
from deep_rnn.kernels.sequence import begin_anew, mask_padding, reverse_valid
from deep_rnn.kernels.tracing import in_graph, is_shape_only, under_vmap
from deep_rnn.layer import merge_directions

StackNoise = tuple[Any, ...]  # one LayerNoise a layer; a pair of such tuples for a stack that runs both ways as a whole


class Beginning(NamedTuple):
    """What one layer begins a forward call with."""

    states: tuple[Any, ...]
    noise: LayerNoise | None


class Run(NamedTuple):
    """What a forward call leaves: the stack's output, every layer's own output [T, B, F], and where the state ended."""

    output: Tensor
    layers: tuple[Tensor, ...]
    state: states_of.StackState


def run(
    rnn: Any,
    x: Tensor,
    state: Any,
    lengths: Tensor | Sequence[int] | None,
    noise: StackNoise | None,
    starts: Tensor | None = None,
    layer_by_layer: bool = False,
) -> Run:
    """``DeepRNN.forward`` on time-major batches [T, B, I]; every layer's output is there only if run layer by layer."""
    lengths = checked_lengths(lengths, checked_input(x, rnn.input_size, rnn.batch_first, weights_dtype(rnn)))
    if starts is None or starts.numel() == 0:
        return run_stacks(rnn, x, state, lengths, noise, layer_by_layer)
    untold = in_graph() or under_vmap() or torch.jit.is_tracing() or is_shape_only(starts)
    if rnn.backend in ("loop", "scan") or untold:
        return run_stacks(rnn, x, state, lengths, noise, layer_by_layer, starts)
    if begin_inside(starts):
        return run_episodes(rnn, x, state, cut(starts, lengths), noise, layer_by_layer)
    if state is not None:
        state = begun_before_the_first_step(rnn, state, begin_anew(starts[:1], lengths, backward=False)[0])
    return run_stacks(rnn, x, state, lengths, noise, layer_by_layer)


def run_stacks(
    rnn: Any,
    x: Tensor,
    state: Any,
    lengths: Tensor | None,
    noise: StackNoise | None,
    layer_by_layer: bool,
    starts: Tensor | None = None,
) -> Run:
    """The stack, and the one that runs backwards as a whole where there is one."""
    if rnn.mirror is None:
        return run_layers(rnn, x, state, lengths, noise, layer_by_layer, starts)
    states = (None, None) if state is None else states_of.split_pairs(state, list(rnn.layers))
    noises = (None, None) if noise is None else noise
    turned_starts = None
    if starts is not None:
        turned_starts = reverse_valid(begin_anew(starts, lengths, backward=True)[..., None], lengths)[..., 0]
    forward = run_layers(rnn, x, states[0], lengths, noises[0], layer_by_layer, starts)
    turned_x = reverse_valid(x, lengths)
    turned = run_layers(rnn.mirror, turned_x, states[1], lengths, noises[1], layer_by_layer, turned_starts)
    pairs = zip((forward.output, *forward.layers), (turned.output, *turned.layers), strict=True)
    output, *outputs = (merge_directions((one, reverse_valid(two, lengths)), rnn.merge) for one, two in pairs)
    ended = zip(forward.state.layers, turned.state.layers, strict=True)
    return Run(output, tuple(outputs), states_of.StackState(tuple(states_of.Ended(*pair) for pair in ended)))


def run_episodes(
    rnn: Any, x: Tensor, state: Any, episodes: Episodes, noise: StackNoise | None, layer_by_layer: bool
) -> Run:
    """The stack over the episodes of a batch, each a row of its own."""
    batch, rows = x.shape[1], len(episodes.column)
    if state is not None:
        fresh = states_of.checked_inner(rnn.initial_state(rows), rnn, rows)
        given = states_of.checked_inner(state, rnn, batch)
        state = states_of.to_given(states_of.map_inner(episodes.state, given, fresh))
    if noise is None and rnn.training and any(layer.is_noisy for layer in rnn.layers):
        noise = rnn.draw_noise(batch)
    if noise is not None:  # a sequence's masks hold in all its episodes
        noise = select_sequences(noise, episodes.column)
    result = run_stacks(rnn, episodes.rows(x), state, episodes.lengths, noise, layer_by_layer)
    ended = states_of.map_inner(episodes.last, states_of.ended_inner(result.state))
    return Run(episodes.whole(result.output), tuple(map(episodes.whole, result.layers)), states_of.to_outer(ended))


def begun_before_the_first_step(rnn: Any, state: Any, begins: Tensor) -> Any:
    """The state given, where sequences may begin anew before their first step [B]."""

    def chosen(given: Tensor, fresh: Tensor, backward: bool) -> Tensor:
        return given if backward else torch.where(begins[:, None], fresh, given)

    given, fresh = (states_of.checked_inner(one, rnn, len(begins)) for one in (state, rnn.initial_state(len(begins))))
    return states_of.to_given(states_of.map_inner(chosen, given, fresh))


def run_layers(
    rnn: Any,
    x: Tensor,
    state: Any,
    lengths: Tensor | None,
    noise: StackNoise | None,
    layer_by_layer: bool,
    starts: Tensor | None = None,
) -> Run:
    """This stack's own layers: all in one call of a backend where one can, else one by one."""
    begun = beginnings(rnn, x.shape[1], state, noise)
    whole = None if layer_by_layer else whole_call(rnn, x, lengths, begun, starts)
    chosen = None if whole is None else rnn.choices.choose(whole, rnn._backend)
    if whole is not None and chosen is not None:
        backend = BACKENDS[chosen]
        result = backend.run(whole._replace(x=mask_padding(x, lengths)) if backend.reads_padding else whole)
        return Run(result.output, (), states_of.to_outer(result.states))
    below = mask_padding(x, lengths)
    outputs: list[Tensor] = []
    ended: list[tuple[Any, ...]] = []
    for layer, link, norm, one in zip(rnn.layers, rnn.links, rnn.norms, begun, strict=True):
        read = norm(below) if rnn.norm_place == "pre" else below
        result = unroll(layer.call(read, one.states, lengths, one.noise, rnn.recompute, starts), rnn.backend)
        outputs.append(layer.merged(result.output))
        ended += result.states
        locked = None if one.noise is None else one.noise.output
        linked = link(below, drop_outputs(outputs[-1], locked, layer.rates.dropout, rnn.training))
        below = norm(linked) if rnn.norm_place == "post" else linked
    output = below[..., rnn.input_size :] if rnn.carries_input else below
    if rnn.link != "none" or rnn.norm != "none":
        output = mask_padding(output, lengths)  # projections and biases speak at padded steps too
    return Run(output, tuple(outputs), states_of.to_outer(tuple(ended)))


def whole_call(
    rnn: Any, x: Tensor, lengths: Tensor | None, begun: list[Beginning], starts: Tensor | None = None
) -> Call | None:
    """All layers as one call, or None where something happens between them that a backend does not see."""
    if not rnn.is_bare or any(one.noise is not None and one.noise.output is not None for one in begun):
        return None
    layers = list(rnn.layers)
    *between, last = [layer.rates.dropout for layer in layers]
    if last or len(set(between)) > 1:
        return None
    if starts is not None and len(layers) > 1:
        return None  # those who run them do so layer by layer
    noisy = begun[0].noise is not None
    return Call(
        layers=tuple([tuple(layer.cells) for layer in layers]),
        x=x,
        states=tuple([one.states for one in begun]),
        lengths=lengths,
        noises=tuple([layer.noises(one.noise) for layer, one in zip(layers, begun, strict=True)]) if noisy else (),
        zoneout=layers[0].zoneout,
        dropout=between[0] if between else 0.0,
        training=rnn.training,
        recompute=rnn.recompute,
        starts=starts,
        fresh=() if starts is None else tuple([layer.initial_state(x.shape[1]) for layer in layers]),
    )


def beginnings(rnn: Any, batch_size: int, state: Any, noise: StackNoise | None) -> list[Beginning]:
    """Initial states and noise of every layer for one forward call."""
    layers = list(rnn.layers)
    if noise is None and rnn.training and any(layer.is_noisy for layer in layers):
        noise = tuple(layer.draw_noise(batch_size) for layer in layers)
    if noise is not None and len(noise) != rnn.num_layers:
        raise ValueError(f"noise was drawn for {len(noise)} layers; this stack has {rnn.num_layers}")
    if state is None:
        states = tuple([layer.initial_state(batch_size) for layer in layers])
    else:
        states = states_of.to_inner(state, layers, batch_size)
    return [Beginning(states[k], None if noise is None else noise[k]) for k in range(rnn.num_layers)]

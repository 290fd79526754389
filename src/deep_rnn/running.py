"""One forward call of a stack on a time-major batch: all its layers in one call of a backend, or one after another."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from deep_rnn import state as states_of
from deep_rnn.dropout import LayerNoise, drop_outputs, select_sequences
from deep_rnn.episodes import Episodes, begin_inside, cut
from deep_rnn.hooks import any_must_be_called, must_be_called
from deep_rnn.inputs import checked_input, checked_lengths, weights_dtype
from deep_rnn.kernels import BACKENDS, Call
from deep_rnn.kernels.sequence import begin_anew, mask_padding, reverse_valid, turned_starts
from deep_rnn.kernels.tracing import in_graph, is_shape_only, under_vmap
from deep_rnn.layer import merge_directions

StackNoise = tuple[Any, ...]  # one LayerNoise a layer; a pair of such tuples for a stack that runs both ways as a whole


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
    dtype = weights_dtype(rnn)
    if x.dtype != dtype and any_must_be_called(rnn):
        dtype = x.dtype  # hooks may change either; layers look at what they get
    lengths = checked_lengths(lengths, checked_input(x, rnn.input_size, rnn.batch_first, dtype))
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
    forward = run_layers(rnn, x, states[0], lengths, noises[0], layer_by_layer, starts)
    turned_x, begins = reverse_valid(x, lengths), turned_starts(starts, lengths)
    if must_be_called(rnn.mirror) and not layer_by_layer:
        turned = call_stack(rnn.mirror, turned_x, states[1], lengths, noises[1], begins)
    else:
        turned = run_layers(rnn.mirror, turned_x, states[1], lengths, noises[1], layer_by_layer, begins)
    pairs = zip((forward.output, *forward.layers), (turned.output, *turned.layers), strict=True)
    output, *outputs = (merge_directions((one, reverse_valid(two, lengths)), rnn.merge) for one, two in pairs)
    ended = zip(forward.state.layers, turned.state.layers, strict=True)
    return Run(output, tuple(outputs), states_of.StackState(tuple(states_of.Ended(*pair) for pair in ended)))


def call_stack(rnn: Any, x: Tensor, state: Any, lengths: Any, noise: StackNoise | None, starts: Tensor | None) -> Run:
    """A stack called as a module, for its hooks to run, on time-major batches."""
    begins = starts.transpose(0, 1) if starts is not None and rnn.batch_first else starts
    output, ended = rnn(rnn.time_major(x), state, lengths, noise, begins)
    return Run(rnn.time_major(output), (), ended)


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
    layers = layers_of(rnn)
    noise = noise_of(rnn, layers, noise, x.shape[1])
    states = None if state is None else states_of.to_inner(state, layers, x.shape[1])
    cells = None if any_must_be_called(rnn) else tuple([layer.cells_with_weights() for layer in layers])
    if cells is not None and not layer_by_layer:
        whole = whole_call(rnn, cells, x, states, lengths, noise, starts)
        chosen = None if whole is None else rnn.choices.choose(whole, rnn._backend)
        if whole is not None and chosen is not None:
            backend = BACKENDS[chosen]
            result = backend.run(whole._replace(x=mask_padding(x, lengths)) if backend.reads_padding else whole)
            return Run(result.output, (), states_of.to_outer(result.states))
    below = mask_padding(x, lengths)
    outputs: list[Tensor] = []
    ended: list[tuple[Any, ...]] = []
    common = {"lengths": lengths, "starts": starts, "recompute": rnn.recompute, "backend": rnn._backend}
    for place, (layer, link, norm) in enumerate(zip(layers, rnn.links, rnn.norms, strict=True)):
        read = norm(below) if rnn.norm_place == "pre" else below
        own_noise: LayerNoise | None = None if noise is None else noise[place]
        begun, made = [None if each is None else each[place] for each in (states, cells)]
        output, after = layer(read, begun, noise=own_noise, cells=made, **common)
        outputs.append(output)
        ended.append(after)
        locked = None if own_noise is None else own_noise.output
        linked = link(below, drop_outputs(output, locked, layer.rates.dropout, rnn.training))
        below = norm(linked) if rnn.norm_place == "post" else linked
    output = below[..., rnn.input_size :] if rnn.carries_input else below
    if rnn.link != "none" or rnn.norm != "none":
        output = mask_padding(output, lengths)  # projections and biases speak at padded steps too
    return Run(output, tuple(outputs) if layer_by_layer else (), states_of.to_outer(tuple(ended)))


def whole_call(
    rnn: Any,
    cells: tuple[tuple[Any, ...], ...],
    x: Tensor,
    states: states_of.Inner | None,
    lengths: Tensor | None,
    noise: StackNoise | None,
    starts: Tensor | None = None,
) -> Call | None:
    """All layers as one call, or None where something happens between them that a backend does not see."""
    if not rnn.is_bare or (noise is not None and any(one.output is not None for one in noise)):
        return None
    layers = layers_of(rnn)
    *between, last = [layer.rates.dropout for layer in layers]
    if last or len(set(between)) > 1:
        return None
    if starts is not None and len(layers) > 1:
        return None  # those who run them do so layer by layer
    batch = x.shape[1]
    if noise is None:
        noises: tuple[Any, ...] = ()
    else:
        noises = tuple([layer.noises(own, one) for layer, own, one in zip(layers, cells, noise, strict=True)])
    return Call(
        layers=cells,
        x=x,
        states=tuple([layer.initial_state(batch) for layer in layers]) if states is None else states,
        lengths=lengths,
        noises=noises,
        zoneout=layers[0].zoneout,
        dropout=between[0] if between else 0.0,
        training=rnn.training,
        recompute=rnn.recompute,
        starts=starts,
        fresh=() if starts is None else tuple([layer.initial_state(batch) for layer in layers]),
    )


def layers_of(rnn: Any) -> tuple[Any, ...]:
    """The layers of a stack; by attributes and iterators a small stack would spend a microsecond on it."""
    return tuple(rnn._modules["layers"]._modules.values())


def noise_of(rnn: Any, layers: Sequence[Any], noise: StackNoise | None, batch_size: int) -> StackNoise | None:
    """The noise of every layer for one forward call: as given, else drawn in training."""
    if noise is None and rnn.training and any(layer.is_noisy for layer in layers):
        noise = tuple([layer.draw_noise(batch_size) for layer in layers])
    if noise is not None and len(noise) != len(layers):
        raise ValueError(f"noise was drawn for {len(noise)} layers; this stack has {len(layers)}")
    return noise

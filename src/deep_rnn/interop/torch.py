"""Stacks from and to torch.nn.RNN, LSTM and GRU, with every option that those have."""

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from deep_rnn.interop.used import is_reparametrised, trains, used_weights
from deep_rnn.links import NoLink

NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")  # of torch.nn's weights, without the layer
LEFT_BEHIND = "weights are taken over as they are used; what makes them (pruning, weight_norm, …) does not come along"


def stack_from_torch(build: Any, module: nn.RNNBase, options: dict[str, Any]) -> Any:
    """A DeepRNN with the weights, options, device, dtype and training mode of a torch.nn.RNN, LSTM or GRU.

    Args:
        build: DeepRNN, or a subclass.
        options: arguments of DeepRNN that torch.nn has no counterpart of (``backend``), or that shall differ.
    Raises:
        TypeError: for any other module.
    """
    if not isinstance(module, nn.RNN | nn.LSTM | nn.GRU):
        raise TypeError(f"from_torch takes a torch.nn.RNN, LSTM or GRU, not {type(module).__name__}")
    weight: Any = module.weight_ih_l0
    arguments: dict[str, Any] = {
        "input_size": module.input_size,
        "hidden_size": module.hidden_size,
        "num_layers": module.num_layers,
        "cell": cell_name(module),
        "bidirectional": module.bidirectional,
        "dropout": float(module.dropout),
        "bias": module.bias,
        "batch_first": module.batch_first,
        "device": weight.device,
        "dtype": weight.dtype,
    }
    if isinstance(module, nn.RNN):
        arguments["activation"] = module.nonlinearity
    if module.proj_size:
        arguments["proj_size"] = module.proj_size
    rnn = build(**{**arguments, **options})
    with torch.no_grad():
        places = list(places_of(rnn))
        values = used_weights(module, [name for _, _, name in places])
        for cell, own, name in places:
            ours = cell.get_parameter(own)
            ours.copy_(values[name])
            ours.requires_grad_(trains(module, name))
    if is_reparametrised(module, [name for _, _, name in places]):
        warnings.warn(LEFT_BEHIND, stacklevel=3)
    return rnn.train(module.training)


def stack_to_torch(rnn: Any) -> nn.RNNBase:
    """The torch.nn.RNN, LSTM or GRU that computes what a DeepRNN computes, with its weights.

    Raises:
        ValueError: for a stack that torch.nn has no form for; the message says what is in the way.
    """
    obstacles = list(in_the_way(rnn))
    if obstacles:
        raise ValueError(f"torch.nn has no form for this stack: {'; '.join(obstacles)}")
    cell = rnn.layers[0].cell
    mode = cell.native_mode
    kinds: dict[str, type[nn.RNNBase]] = {"LSTM": nn.LSTM, "GRU": nn.GRU}
    options: dict[str, Any] = {}
    if mode not in kinds:
        options["nonlinearity"] = cell.activation
    if cell.output_size != cell.hidden_size:
        options["proj_size"] = cell.output_size
    module = kinds.get(mode, nn.RNN)(
        rnn.input_size,
        cell.hidden_size,
        rnn.num_layers,
        bias=cell.bias,
        batch_first=rnn.batch_first,
        dropout=rnn.layers[0].rates.dropout if rnn.num_layers > 1 else 0.0,
        bidirectional=rnn.bidirectional,
        device=cell.weight_ih.device,
        dtype=cell.weight_ih.dtype,
        **options,
    )
    with torch.no_grad():
        made_from_others = False
        for one, own, name in places_of(rnn):
            theirs = module.get_parameter(name)
            theirs.copy_(used_weights(one, [own])[own])
            theirs.requires_grad_(trains(one, own))
            made_from_others |= is_reparametrised(one, [own])
    if made_from_others:
        warnings.warn(LEFT_BEHIND, stacklevel=3)
    return module.train(rnn.training)


def cell_name(module: nn.RNNBase) -> str:
    """The name in ``CELLS`` of what a torch.nn module computes."""
    if isinstance(module, nn.GRU):
        return "gru"
    if isinstance(module, nn.RNN):
        return "rnn"
    return "lstmp" if module.proj_size else "lstm"


def places_of(rnn: Any) -> Iterator[tuple[Any, str, str]]:
    """Every weight's cell and name in it, with the name that torch.nn has for it (``weight_ih_l0_reverse``)."""
    for index, layer in enumerate(rnn.layers):
        for suffix, cell in zip(("", "_reverse"), layer.cells, strict=False):
            for name in NAMES:
                if getattr(cell, name, None) is not None:
                    yield cell, name, f"{name}_l{index}{suffix}"


def from_torch_names(rnn: Any, state_dict: dict[str, Any], prefix: str) -> None:
    """Give a torch.nn module's entries in a state_dict, in place, the names that they have in a stack of its shape."""
    if f"{prefix}weight_ih_l0" not in state_dict or rnn.mirror is not None:
        return
    for index, layer in enumerate(rnn.layers):
        for direction, suffix in enumerate(("", "_reverse")[: len(layer.cells)]):
            for name in NAMES:
                theirs = f"{prefix}{name}_l{index}{suffix}"
                if theirs in state_dict:
                    state_dict[f"{prefix}layers.{index}.cells.{direction}.{name}"] = state_dict.pop(theirs)


def in_the_way(rnn: Any) -> Iterator[str]:
    """What a stack has that torch.nn's stacks have not."""
    cells = [cell for layer in rnn.layers for cell in layer.cells]
    for name in sorted({type(cell).__name__ for cell in cells if cell.native_mode is None}):
        yield f"no layer of torch.nn computes this {name}"
    yield from sorted({cell.altered for cell in cells if cell.native_mode is not None and cell.altered is not None})
    if len({(cell.native_mode, cell.hidden_size, cell.output_size, cell.bias) for cell in cells}) > 1:
        yield "its layers differ in cell, width or bias"
    yield from connections_in_the_way(rnn)
    rates = [layer.rates for layer in rnn.layers]
    if len({rate.dropout for rate in rates[:-1]}) > 1 or rates[-1].dropout > 0:
        yield f"dropout={[rate.dropout for rate in rates]} is not one rate between the layers"
    if any(layer.locked and layer.rates.dropout > 0 for layer in rnn.layers):
        yield "locked_dropout"
    if any(any(rate[1:]) for rate in rates) or any(layer.zoneout for layer in rnn.layers):
        yield "noise inside the cells (recurrent_dropout, candidate_dropout, weight_drop or zoneout)"
    if rnn.bidirectional and rnn.merge != "concat":
        yield f"merge={rnn.merge}"


def connections_in_the_way(rnn: Any) -> Iterator[str]:
    """What neither torch.nn nor Keras has between layers, and the learned state before the first step."""
    if rnn.mirror is not None:
        yield "bidirectional='stacks'"
    if not all(isinstance(link, NoLink) for link in rnn.links):
        yield f"link={rnn.link}"
    if rnn.norm != "none":
        yield f"norm={rnn.norm}"
    if any(len(layer.first_state) for layer in rnn.layers):
        yield "learn_state"
    if any(layer.zoneout for layer in rnn.layers):
        yield "zoneout, which evaluation feels too"

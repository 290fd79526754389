"""The model's table before training."""

import torch
from torch import Tensor, nn
from torchinfo import summary

_LEFT_OUT = ("mult-adds", "(MB)", "(units.")
"""Lines of torchinfo that are wrong for recurrent networks, which count a weight once and use it at every step."""


def model_table(model: nn.Module, inputs: tuple[Tensor, ...]) -> str:
    """Describe a model in the manner of Keras: each part, the shape it gives, its parameters, and their sum.

    Nothing random is drawn and the model stays as it was.

    Args:
        model: the model, on the device of the inputs.
        inputs: arguments of its forward call.
    """
    training = model.training
    with torch.random.fork_rng([inputs[0].device] if inputs[0].is_cuda else []):
        table = summary(
            model,
            input_data=inputs,
            mode="eval",
            verbose=0,
            col_names=("output_size", "num_params"),
            row_settings=("var_names",),
        )
    model.train(training)
    lines = [line for line in str(table).splitlines() if not any(mark in line for mark in _LEFT_OUT)]
    return "\n".join(line for i, line in enumerate(lines) if i == 0 or line != lines[i - 1])  # no double rules

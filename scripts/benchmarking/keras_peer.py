"""The contestant Keras on TensorFlow, where it is installed: same weights, same input, same threads."""

import importlib.util
import os
from functools import cache
from typing import Any

import numpy as np
import torch

from benchmarking.cases import VOCABULARY, Case
from benchmarking.stacks import ids_of, inputs_of, stack_of
from benchmarking.timing import Call

KERAS = "Keras"


def why_not() -> str | None:
    """Why Keras cannot take part, or None; nothing is imported to find out."""
    missing = [name for name in ("keras", "tensorflow") if importlib.util.find_spec(name) is None]
    return f"{' and '.join(missing)} not installed (pip install -e '.[peers]')" if missing else None


@cache
def load() -> tuple[Any, Any]:
    """The modules keras and tensorflow, on torch's number of threads."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow

    tensorflow.config.threading.set_intra_op_parallelism_threads(torch.get_num_threads())
    tensorflow.config.threading.set_inter_op_parallelism_threads(torch.get_num_threads())
    import keras

    return keras, tensorflow


def layers_of(case: Case) -> list[Any]:
    """Keras's layers; Keras's own GRU also has its reset gate behind the product."""
    keras, _ = load()
    make = {"rnn": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[case.cell]
    layers = [make(width, return_sequences=True) for width in case.widths]
    return [keras.layers.Bidirectional(layer) for layer in layers] if case.both_ways else layers


def stack(case: Case) -> Any:
    """The stack as a Keras model from [B, T, I], with the weights that all contestants get."""
    keras, _ = load()
    model = keras.Sequential([keras.Input((case.time, case.input_size)), *layers_of(case)])
    model.set_weights(stack_of(case).to_keras())
    return model


def call(case: Case) -> Call:
    """What is timed, as a graph function of TensorFlow's."""
    _, tensorflow = load()
    if case.what == "training step":
        return training_step(case)
    model, x = stack(case), tensorflow.constant(inputs_of(case).transpose(0, 1).numpy())
    if case.what == "forward":
        graph = tensorflow.function(lambda: model(x, training=False))
        return lambda: graph().numpy()

    @tensorflow.function
    def gradients() -> Any:
        with tensorflow.GradientTape() as tape:
            tape.watch(x)
            output = model(x, training=True)
        return tape.gradient(output, [x, *model.trainable_variables], tensorflow.ones_like(output))

    return lambda: [gradient.numpy() for gradient in gradients()]


def training_step(case: Case) -> Call:
    """``train_on_batch`` of a compiled Keras model: embedding, stack, head, loss, clipping, Adam."""
    keras, _ = load()
    model = keras.Sequential(
        [
            keras.Input((case.time,), dtype="int32"),
            keras.layers.Embedding(VOCABULARY, case.input_size),
            *layers_of(case),
            keras.layers.Lambda(lambda h: h[:, -1]),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(keras.optimizers.Adam(1e-3, global_clipnorm=1.0), loss="binary_crossentropy")
    ids, labels = ids_of(case)
    inputs, targets = ids.T.contiguous().numpy().astype(np.int32), labels.numpy()
    return lambda: model.train_on_batch(inputs, targets)


def outputs(case: Case) -> np.ndarray:
    """What the stack computes, [T, B, F]."""
    return np.asarray(stack(case)(inputs_of(case).transpose(0, 1).numpy())).swapaxes(0, 1)

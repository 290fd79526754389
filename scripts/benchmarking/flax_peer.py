"""The contestant Flax on JAX, where it is installed: same weights, same input, compiled by XLA as a whole."""

import importlib.util
from functools import cache
from typing import Any

import numpy as np

from benchmarking.cases import VOCABULARY, Case
from benchmarking.stacks import ids_of, inputs_of, stack_of
from benchmarking.timing import Call

FLAX = "Flax"


def why_not(case: Case | None = None) -> str | None:
    """Why Flax cannot take part (in a case), or None; nothing is imported to find out."""
    missing = [name for name in ("jax", "flax", "optax") if importlib.util.find_spec(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed (pip install -e '.[peers]')"
    return "one direction and whole sequences only" if case is not None and case.both_ways else None


@cache
def load() -> tuple[Any, Any, Any, Any]:
    """The modules jax, jax.numpy, flax.linen and optax."""
    import jax
    import optax
    from flax import linen
    from jax import numpy

    return jax, numpy, linen, optax


def stack(case: Case) -> tuple[Any, Any]:
    """A Flax module from [T, B, I] to [T, B, F], and the parameters that all contestants get."""
    _, _, linen, _ = load()
    make = {"rnn": linen.SimpleCell, "lstm": linen.OptimizedLSTMCell, "gru": linen.GRUCell}[case.cell]
    module = linen.Sequential([linen.RNN(make(width), time_major=True) for width in case.widths])
    return module, {"params": {f"layers_{k}": {"cell": cell} for k, cell in enumerate(parameters(case))}}


def parameters(case: Case) -> list[dict[str, Any]]:
    """Each cell's parameters by Flax's names; a gate's two biases become one where Flax has one."""
    cells = []
    for layer in stack_of(case).layers:
        gates = len(layer.cell.gates)
        parts = [
            np.split(getattr(layer.cell, name).detach().numpy(), gates)
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        ]
        cells.append(dict(flax_cell(case.cell, layer.cell.gates, parts)))
    return cells


def flax_cell(cell: str, gates: tuple[str, ...], parts: list[list[np.ndarray]]) -> Any:
    """(name, arrays) of one cell's products."""
    for gate, w, u, b, c in zip(gates, *parts, strict=True):
        if cell == "rnn":
            yield "i", {"kernel": w.T, "bias": b + c}
            yield "h", {"kernel": u.T}
        elif cell == "lstm":
            yield f"i{gate}", {"kernel": w.T}
            yield f"h{gate}", {"kernel": u.T, "bias": b + c}
        elif gate == "n":
            yield "in", {"kernel": w.T, "bias": b}
            yield "hn", {"kernel": u.T, "bias": c}
        else:
            yield f"i{gate}", {"kernel": w.T, "bias": b + c}
            yield f"h{gate}", {"kernel": u.T}


def call(case: Case) -> Call:
    """What is timed, as one program of XLA's."""
    jax, numpy, _, _ = load()
    if case.what == "training step":
        return training_step(case)
    module, params = stack(case)
    x = numpy.asarray(inputs_of(case).numpy())
    if case.what == "forward":
        forward = jax.jit(module.apply)
        return lambda: jax.block_until_ready(forward(params, x))
    gradients = jax.jit(jax.grad(lambda params, x: module.apply(params, x).sum(), argnums=(0, 1)))
    return lambda: jax.block_until_ready(gradients(params, x))


def training_step(case: Case) -> Call:
    """Embedding, stack, head, loss, backward, clipping and Adam in one program."""
    jax, numpy, linen, optax = load()
    module, params = stack(case)
    embedding, head = linen.Embed(VOCABULARY, case.input_size), linen.Dense(1)
    ids, labels = (numpy.asarray(array.numpy()) for array in ids_of(case))
    keys = jax.random.split(jax.random.key(0), 2)
    first = numpy.zeros((case.batch, case.widths[-1]))
    weights = {"e": embedding.init(keys[0], ids), "s": params, "h": head.init(keys[1], first)}
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))

    def loss(weights: Any) -> Any:
        output = module.apply(weights["s"], embedding.apply(weights["e"], ids))
        return optax.sigmoid_binary_cross_entropy(head.apply(weights["h"], output[-1])[:, 0], labels).mean()

    @jax.jit
    def step(weights: Any, state: Any) -> Any:
        updates, state = optimizer.update(jax.grad(loss)(weights), state, weights)
        return optax.apply_updates(weights, updates), state

    trained = [(weights, optimizer.init(weights))]

    def one() -> None:
        trained[0] = jax.block_until_ready(step(*trained[0]))

    return one


def outputs(case: Case) -> np.ndarray:
    """What the stack computes, [T, B, F]."""
    module, params = stack(case)
    return np.asarray(module.apply(params, inputs_of(case).numpy()))

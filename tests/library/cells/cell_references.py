"""Every cell written out once more in numpy, from its paper, without a line of src: what the equations must give.

A reference is a function ``step(p, x, state, **options) -> state``: p the parameters by name, x [B, I], the state a
tuple of arrays whose first is the output. Products are taken gate by gate, in the order the docstrings promise.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any
Parameters = dict[str, Array]


def sigmoid(a: Array) -> Array:
    return 1 / (1 + np.exp(-a))


def relu(a: Array) -> Array:
    return np.maximum(a, 0)


def gelu(a: Array) -> Array:
    from math import erf

    return a * 0.5 * (1 + np.vectorize(erf)(a / np.sqrt(2)))


ACTIVATIONS = {"tanh": np.tanh, "relu": relu, "gelu": gelu}


def normalise(a: Array, gain: Array) -> Array:
    """Layer norm with the usual 1e-5 under the root."""
    mean, variance = a.mean(-1, keepdims=True), a.var(-1, keepdims=True)
    return gain * (a - mean) / np.sqrt(variance + 1e-5)


def rows(p: Parameters, name: str, order: str, gate: str) -> Array:
    """A gate's rows of a stacked parameter; 0 for a bias that is not there."""
    if name not in p:
        return 0.0
    return np.split(p[name], len(order))[order.index(gate)]


def affine(p: Parameters, order: str, gate: str, x: Array, h: Array, part: str = "") -> Array:
    """W x + b_ih + U h + b_hh of one gate."""
    return (
        x @ rows(p, "weight_ih", order, gate).T
        + rows(p, "bias_ih", order, gate)
        + h @ rows(p, f"weight_hh{part}", order, gate).T
        + rows(p, f"bias_hh{part}", order, gate)
    )


# --- the three classics, normalised or not ----------------------------------------------------------------------------


def rnn(p: Parameters, x: Array, state: tuple, activation: str = "tanh", layer_norm: bool = False) -> tuple:
    (h,) = state
    total = affine(p, "g", "g", x, h)
    if layer_norm:
        total = normalise(total, p["norm.weight"]) + p.get("norm.bias", 0.0)
    return (ACTIVATIONS[activation](total),)


def lstm(p: Parameters, x: Array, state: tuple, layer_norm: bool = False) -> tuple:
    h, c = state
    i, f, g, o = (affine(p, "ifgo", gate, x, h) for gate in "ifgo")
    if layer_norm:
        from_x = normalise(x @ p["weight_ih"].T, p["norm_ih.weight"]) + p.get("bias_ih", 0.0)
        from_h = normalise(h @ p["weight_hh"].T, p["norm_hh.weight"]) + p.get("bias_hh", 0.0)
        i, f, g, o = np.split(from_x + from_h, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    seen = normalise(c, p["norm.weight"]) + p.get("norm.bias", 0.0) if layer_norm else c
    return sigmoid(o) * np.tanh(seen), c


def gru(p: Parameters, x: Array, state: tuple, reset_after: bool = True, layer_norm: bool = False) -> tuple:
    (h,) = state
    size = h.shape[-1]

    def product(v: Array, kind: str, gates: slice) -> Array:
        total = v @ p[f"weight_{kind}"][gates].T
        if layer_norm:
            total = normalise(total, p[f"norm_{kind}.weight"][gates])
        return total + (p[f"bias_{kind}"][gates] if f"bias_{kind}" in p else 0.0)

    rz, n = slice(0, 2 * size), slice(2 * size, 3 * size)
    r, z = np.split(sigmoid(product(x, "ih", rz) + product(h, "hh", rz)), 2, axis=-1)
    if reset_after:
        new = np.tanh(product(x, "ih", n) + r * product(h, "hh", n))
    else:
        new = np.tanh(product(x, "ih", n) + product(r * h, "hh", n))
    return ((1 - z) * new + z * h,)


def deep(step: Callable[..., tuple]) -> Callable[..., tuple]:
    """Deep transitions: the step again and again, with other recurrent parameters, no input, perhaps a shortcut."""

    def run(
        p: Parameters, x: Array, state: tuple, transition_depth: int = 1, shortcut: bool = False, **options: Any
    ) -> tuple:
        def of_level(level: int) -> Parameters:
            end = f"_{level + 1}" if level else ""
            kept = {name: p[f"{name}{end}"] for name in ("weight_hh", "bias_hh") if f"{name}{end}" in p}
            kept |= {"norm_hh.weight": p[f"norm_hh{end}.weight"]} if f"norm_hh{end}.weight" in p else {}
            norm = f"norms.{level}"
            return kept | {f"norm.{k}": p[f"{norm}.{k}"] for k in ("weight", "bias") if f"{norm}.{k}" in p}

        first = {name: p[name] for name in ("weight_ih", "bias_ih", "norm_ih.weight") if name in p}
        before, state = state[0], step(of_level(0) | first, x, state, **options)
        for level in range(1, transition_depth):
            last = level == transition_depth - 1
            inputs = {"weight_ih": p["weight_hh_shortcut"] if shortcut and last else np.zeros_like(p["weight_hh"])}
            gain = p.get("norm_hh_shortcut.weight", np.ones(len(p["weight_hh"])))
            state = step(of_level(level) | inputs | {"norm_ih.weight": gain}, before, state, **options)
        return state

    return run


# --- relatives of the LSTM --------------------------------------------------------------------------------------------


def peephole(p: Parameters, x: Array, state: tuple) -> tuple:
    h, c = state
    i = sigmoid(affine(p, "ifgo", "i", x, h) + p["weight_ci"] * c)
    f = sigmoid(affine(p, "ifgo", "f", x, h) + p["weight_cf"] * c)
    c = f * c + i * np.tanh(affine(p, "ifgo", "g", x, h))
    o = sigmoid(affine(p, "ifgo", "o", x, h) + p["weight_co"] * c)
    return o * np.tanh(c), c


def cifg(p: Parameters, x: Array, state: tuple) -> tuple:
    h, c = state
    f = sigmoid(affine(p, "fgo", "f", x, h))
    c = f * c + (1 - f) * np.tanh(affine(p, "fgo", "g", x, h))
    return sigmoid(affine(p, "fgo", "o", x, h)) * np.tanh(c), c


def lstmp(p: Parameters, x: Array, state: tuple, proj_size: int | None = None) -> tuple:
    m, c = lstm(p, x, state)
    return m @ p["weight_hr"].T, c


def janet(p: Parameters, x: Array, state: tuple, beta: float = 1.0) -> tuple:
    (c,) = state
    s = affine(p, "fg", "f", x, c)
    return (sigmoid(s) * c + (1 - sigmoid(s - beta)) * np.tanh(affine(p, "fg", "g", x, c)),)


def mlstm(p: Parameters, x: Array, state: tuple) -> tuple:
    h, c = state
    m = (x @ rows(p, "weight_ih", "ifgom", "m").T) * (h @ p["weight_hh_m"].T)

    def gate(name: str) -> Array:
        return (
            x @ rows(p, "weight_ih", "ifgom", name).T
            + m @ rows(p, "weight_hh", "ifgo", name).T
            + rows(p, "bias_ih", "ifgo", name)
        )

    c = sigmoid(gate("f")) * c + sigmoid(gate("i")) * np.tanh(gate("g"))
    return sigmoid(gate("o")) * np.tanh(c), c


def slstm(p: Parameters, x: Array, state: tuple, heads: int = 1, exponential_forget: bool = False) -> tuple:
    """The paper's equations before stabilisation: the stabiliser must change nothing."""
    h, c, n, m = state
    size = h.shape[-1] // heads

    def gate(name: str) -> Array:
        recurrent = rows(p, "weight_hh", "ifzo", name)
        mixed = [h[:, k * size : (k + 1) * size] @ recurrent[k * size : (k + 1) * size].T for k in range(heads)]
        inputs = x @ rows(p, "weight_ih", "ifzo", name).T + rows(p, "bias_ih", "ifzo", name)
        return inputs + np.concatenate(mixed, axis=-1)

    i, f = np.exp(gate("i")), (np.exp if exponential_forget else sigmoid)(gate("f"))
    c, n = f * c + i * np.tanh(gate("z")), f * n + i
    return sigmoid(gate("o")) * c / n, c, n, m


# --- relatives of the GRU ---------------------------------------------------------------------------------------------


def mgu(p: Parameters, x: Array, state: tuple) -> tuple:
    (h,) = state
    f = sigmoid(affine(p, "fn", "f", x, h))
    return ((1 - f) * h + f * np.tanh(affine(p, "fn", "n", x, f * h)),)


def ugrnn(p: Parameters, x: Array, state: tuple) -> tuple:
    (h,) = state
    g = sigmoid(affine(p, "cg", "g", x, h))
    return (g * h + (1 - g) * np.tanh(affine(p, "cg", "c", x, h)),)


def ligru(p: Parameters, x: Array, state: tuple) -> tuple:
    (h,) = state
    inputs = normalise(x @ p["weight_ih"].T, p["norm_ih.weight"]) + p.get("bias_ih", 0.0)
    z, n = np.split(inputs + h @ p["weight_hh"].T, 2, axis=-1)
    return (sigmoid(z) * h + (1 - sigmoid(z)) * relu(n),)


# --- no recurrent matrix ----------------------------------------------------------------------------------------------


def indrnn(p: Parameters, x: Array, state: tuple, activation: str = "relu") -> tuple:
    (h,) = state
    return (ACTIVATIONS[activation](x @ p["weight_ih"].T + p["weight_hh"] * h + p.get("bias_ih", 0.0)),)


def sru(p: Parameters, x: Array, state: tuple) -> tuple:
    _, c = state
    w_f, w_r, w = np.split(p["weight_ih"], 3)
    f = sigmoid(x @ w_f.T + p["weight_cf"] * c + rows(p, "bias_ih", "fr", "f"))
    r = sigmoid(x @ w_r.T + p["weight_cr"] * c + rows(p, "bias_ih", "fr", "r"))
    c = f * c + (1 - f) * (x @ w.T)
    return r * c + (1 - r) * (x @ p["weight_ih_skip"].T if "weight_ih_skip" in p else x), c


def fo_pool(p: Parameters, x: Array, state: tuple, window: int = 1) -> tuple:
    """The state carries the last k - 1 inputs themselves, newest first."""
    _, c, *past = state
    taps = [p["weight_ih"], *(np.split(p["weight_ih_past"], window - 1) if window > 1 else [])]
    past = [x, *(past or [np.zeros_like(x)] * (window - 1))]
    total = sum(v @ tap.T for v, tap in zip(past, taps, strict=True)) + p.get("bias_ih", 0.0)
    z, f, o = np.split(total, 3, axis=-1)
    c = sigmoid(f) * c + (1 - sigmoid(f)) * np.tanh(z)
    return sigmoid(o) * c, c, *past[:-1]


def candidate(a: Array, positive: bool) -> Array:
    return np.where(a >= 0, a + 0.5, sigmoid(a)) if positive else a


def mingru(p: Parameters, x: Array, state: tuple, positive: bool = False) -> tuple:
    (h,) = state
    z, n = np.split(x @ p["weight_ih"].T + p.get("bias_ih", 0.0), 2, axis=-1)
    return ((1 - sigmoid(z)) * h + sigmoid(z) * candidate(n, positive),)


def minlstm(p: Parameters, x: Array, state: tuple, positive: bool = False) -> tuple:
    (h,) = state
    f, i, n = np.split(x @ p["weight_ih"].T + p.get("bias_ih", 0.0), 3, axis=-1)
    f, i = sigmoid(f), sigmoid(i)
    return (f / (f + i) * h + i / (f + i) * candidate(n, positive),)


# --- highway and dynamical systems ------------------------------------------------------------------------------------


def rhn(p: Parameters, x: Array, state: tuple, transition_depth: int = 3, transform_bias: float = -2.0) -> tuple:
    (s,) = state
    for k in range(1, transition_depth + 1):
        end = "" if k == 1 else f"_{k}"
        g, t = np.split(s @ p[f"weight_hh{end}"].T + p.get("bias_ih" if k == 1 else f"bias_hh{end}", 0.0), 2, axis=-1)
        if k == 1:
            g, t = g + x @ rows(p, "weight_ih", "gt", "g").T, t + x @ rows(p, "weight_ih", "gt", "t").T
        s = np.tanh(g) * sigmoid(t) + s * (1 - sigmoid(t))
    return (s,)


def cornn(p: Parameters, x: Array, state: tuple, dt: float = 0.042, gamma: float = 2.7, epsilon: float = 4.7) -> tuple:
    y, z = state
    force = np.tanh(x @ p["weight_ih"].T + y @ p["weight_hh"].T + z @ p["weight_hh_z"].T + p.get("bias_ih", 0.0))
    z = z + dt * force - dt * gamma * y - dt * epsilon * z
    return y + dt * z, z


def lem(p: Parameters, x: Array, state: tuple, dt: float = 1.0) -> tuple:
    y, z = state

    def inputs(gate: str) -> Array:
        return x @ rows(p, "weight_ih", "adzy", gate).T + rows(p, "bias_ih", "adzy", gate)

    step = dt * sigmoid(inputs("a") + y @ rows(p, "weight_hh", "adz", "a").T)
    step_bar = dt * sigmoid(inputs("d") + y @ rows(p, "weight_hh", "adz", "d").T)
    z = (1 - step) * z + step * np.tanh(inputs("z") + y @ rows(p, "weight_hh", "adz", "z").T)
    return (1 - step_bar) * y + step_bar * np.tanh(inputs("y") + z @ p["weight_hh_y"].T), z


def antisymmetric(
    p: Parameters, x: Array, state: tuple, epsilon: float = 0.01, gamma: float = 0.01, gated: bool = False
) -> tuple:
    (h,) = state
    turn = p["weight_hh"] - p["weight_hh"].T - gamma * np.eye(h.shape[-1])
    order = "gz" if gated else "g"
    total = {k: turn @ h.T + rows(p, "weight_ih", order, k) @ x.T for k in order}
    change = np.tanh(total["g"].T + rows(p, "bias_ih", order, "g"))
    if gated:
        change = change * sigmoid(total["z"].T + rows(p, "bias_ih", order, "z"))
    return (h + epsilon * change,)


def leaky_integrator(p: Parameters, x: Array, state: tuple, leak: float = 0.3) -> tuple:
    (h,) = state
    return ((1 - leak) * h + leak * np.tanh(affine(p, "g", "g", x, h)),)


REFERENCES: dict[str, Callable[..., tuple]] = {
    "rnn": deep(rnn),
    "lstm": deep(lstm),
    "gru": deep(gru),
    "peephole": peephole,
    "cifg": cifg,
    "lstmp": lstmp,
    "janet": janet,
    "mlstm": mlstm,
    "slstm": slstm,
    "mgu": mgu,
    "ugrnn": ugrnn,
    "ligru": ligru,
    "indrnn": indrnn,
    "sru": sru,
    "fo_pool": fo_pool,
    "mingru": mingru,
    "minlstm": minlstm,
    "rhn": rhn,
    "cornn": cornn,
    "lem": lem,
    "antisymmetric": antisymmetric,
    "own_cell.LeakyIntegrator": leaky_integrator,
}

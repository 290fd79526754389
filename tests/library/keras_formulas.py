"""Keras's recurrent layers in numpy, written from their documented formulas; nothing here knows ``src``.

SimpleRNN   h' = tanh(x K + b + h U)
LSTM        i f c o = x K + h U + b     c' = sig(f) c + sig(i) tanh(c_)     h' = sig(o) tanh(c')
GRU         z r = sig(x K_zr + h U_zr + b_zr)      h' = z h + (1 - z) hh
            reset_after=False:  hh = tanh(x K_h + b_h + (r h) U_h)
            reset_after=True:   hh = tanh(x K_h + b_h + r (h U_h + b'_h)), and b'_zr is added inside z and r
"""

import numpy as np

GATES = {"rnn": 1, "lstm": 4, "gru": 3}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def simple_rnn(x, kernel, recurrent, bias=0.0):
    h, outputs = np.zeros((x.shape[0], recurrent.shape[0])), []
    for t in range(x.shape[1]):
        h = np.tanh(x[:, t] @ kernel + bias + h @ recurrent)
        outputs.append(h)
    return np.stack(outputs, 1)


def lstm(x, kernel, recurrent, bias=0.0):
    h = c = np.zeros((x.shape[0], recurrent.shape[0]))
    outputs = []
    for t in range(x.shape[1]):
        i, f, candidate, o = np.split(x[:, t] @ kernel + h @ recurrent + bias, 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(candidate)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs, 1)


def gru(x, kernel, recurrent, bias=None, reset_after=True):
    units = recurrent.shape[0]
    input_bias, recurrent_bias = (0.0, np.zeros(3 * units)) if bias is None else bias if reset_after else (bias, None)
    h, outputs = np.zeros((x.shape[0], units)), []
    for t in range(x.shape[1]):
        x_z, x_r, x_h = np.split(x[:, t] @ kernel + input_bias, 3, -1)
        if reset_after:
            h_z, h_r, h_h = np.split(h @ recurrent + recurrent_bias, 3, -1)
            z, r = sigmoid(x_z + h_z), sigmoid(x_r + h_r)
            candidate = np.tanh(x_h + r * h_h)
        else:
            u_z, u_r, u_h = np.split(recurrent, 3, -1)
            z, r = sigmoid(x_z + h @ u_z), sigmoid(x_r + h @ u_r)
            candidate = np.tanh(x_h + (r * h) @ u_h)
        h = z * h + (1 - z) * candidate
        outputs.append(h)
    return np.stack(outputs, 1)


LAYERS = {"rnn": simple_rnn, "lstm": lstm, "gru": gru}
MERGES = {
    "concat": lambda a, b: np.concatenate((a, b), -1),
    "sum": lambda a, b: a + b,
    "ave": lambda a, b: (a + b) / 2,
    "mul": lambda a, b: a * b,
}


def run(x, weights, cell, bidirectional=False, merge="concat", bias=True, **options):
    """Outputs [B, T, F] of stacked layers (``return_sequences=True``) from their flat ``get_weights()``."""
    count = 2 + bias
    parts = [weights[k : k + count] for k in range(0, len(weights), count)]
    for k in range(0, len(parts), 1 + bidirectional):
        forward = LAYERS[cell](x, *parts[k], **options)
        if bidirectional:
            backward = LAYERS[cell](x[:, ::-1], *parts[k + 1], **options)[:, ::-1]
            forward = MERGES[merge](forward, backward)
        x = forward
    return x


def draw(rng, cell, inputs, units, bidirectional=False, merge="concat", bias=True, reset_after=True):
    """Random ``get_weights()`` of stacked layers with these units."""
    weights, size = [], inputs
    for width in units:
        rows = GATES[cell] * width
        own_bias = (2, rows) if cell == "gru" and reset_after else (rows,)
        for _ in range(1 + bidirectional):
            weights += [rng.normal(size=shape) / 2 for shape in ((size, rows), (width, rows), own_bias)[: 2 + bias]]
        size = width * (2 if bidirectional and merge == "concat" else 1)
    return weights

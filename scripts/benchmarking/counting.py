"""The work of a case counted by formula: operations of its matrix products, and bytes that must move.

A multiplication and an addition are two operations; the pointwise arithmetic of the gates is not counted. Bytes are
those of each layer's input, output and weights, each read or written once: what a machine with endless caches could
not avoid. What a kernel keeps for the backward or reads again at every step is its own affair.
"""

from benchmarking.cases import VOCABULARY, Case

GATES = {"rnn": 1, "lstm": 4, "gru": 3}
BYTES = 4  # of a float32
HEAD_OUTPUTS = 1


def layer_sizes(case: Case) -> list[tuple[int, int]]:
    """(inputs, units) of every layer."""
    directions = 1 + case.both_ways
    inputs = [case.input_size, *(directions * width for width in case.widths[:-1])]
    return list(zip(inputs, case.widths, strict=True))


def layer_parameters(case: Case) -> list[int]:
    """Weights and biases of every layer, as torch.nn has them."""
    gates, directions = GATES[case.cell], 1 + case.both_ways
    return [directions * gates * units * (inputs + units + 2) for inputs, units in layer_sizes(case)]


def operations(case: Case) -> int:
    """Operations of the products: 2 N G H (I + H) a layer and direction forward, twice that again backward.

    N are the valid steps of all sequences, G gates, I inputs and H units. The backward has two products for each one of
    the forward: the gradient of its input and that of its weight.
    """
    gates, directions, steps = GATES[case.cell], 1 + case.both_ways, case.tokens()
    forward = sum(2 * steps * directions * gates * units * (inputs + units) for inputs, units in layer_sizes(case))
    if case.what == "forward":
        return forward
    head = 2 * case.batch * case.widths[-1] * directions * HEAD_OUTPUTS if case.what == "training step" else 0
    return 3 * (forward + head)


def bytes_moved(case: Case) -> int:
    """Bytes that must move: forward x, weights and outputs; backward these again, and a gradient for each of them.

    A whole training step adds the embedding (its rows read, its dense gradient written) and Adam, which reads weight,
    gradient and two moments of every parameter and writes all but the gradient.
    """
    directions, steps = 1 + case.both_ways, case.tokens()
    numbers = 0
    for (inputs, units), parameters in zip(layer_sizes(case), layer_parameters(case), strict=True):
        forward = steps * (inputs + directions * units) + parameters
        numbers += forward if case.what == "forward" else 3 * forward
    if case.what == "training step":
        table = VOCABULARY * case.input_size
        trained = table + sum(layer_parameters(case)) + (directions * case.widths[-1] + 1) * HEAD_OUTPUTS
        numbers += steps * case.input_size + table + 7 * trained
    return BYTES * numbers

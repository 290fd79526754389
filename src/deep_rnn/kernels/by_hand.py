"""Whole sequences of rnn, lstm and gru in plain PyTorch, with their gradients written by hand.

Autograd keeps a node for every operation of every step. Here one node stands for the whole sequence: the forward writes
each step straight into arrays of all steps; what the backward multiplies with is made for all steps at once; the sweep
back is then a handful of operations a step, and the gradient of the recurrent weight one product at the end.

Rows of the batch are sorted by length, so that step t works on the first ``active[t]`` rows only. The array of states
[T+1, B, H] holds at t the state before step t of the forward direction, or after step t of the backward direction:
either way a step reads one entry and writes its neighbour.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from deep_rnn.kernels.once import only_once


class Sweep(NamedTuple):
    """The order in which the steps are visited, and how many rows each has."""

    time: int
    reverse: bool
    active: list[int] | None  # per step, rows that are not finished; None: all

    def visit(self) -> range:
        """The steps in the order in which they follow from each other."""
        return range(self.time - 1, -1, -1) if self.reverse else range(self.time)

    def rows(self, array: Tensor) -> list[Tensor]:
        """An array of all steps [T, B, ...] as views of each step's active rows."""
        views = array.unbind(0)
        return list(views) if self.active is None else [view[:n] for view, n in zip(views, self.active, strict=True)]

    def some(self, rows: Tensor) -> list[Tensor]:
        """An array [B, ...] as views of each step's active rows."""
        return [rows] * self.time if self.active is None else [rows[:n] for n in self.active]

    def before(self, states: Tensor) -> Tensor:
        """Of an array of states, [T, B, H] the one that each step reads."""
        return states[1:] if self.reverse else states[:-1]

    def after(self, states: Tensor) -> Tensor:
        """Of an array of states, [T, B, H] the one that each step writes."""
        return states[:-1] if self.reverse else states[1:]

    def new(self, like: Tensor, *shape: int) -> Tensor:
        """An array for all steps; zero where finished rows leave gaps."""
        return like.new_empty(shape) if self.active is None else like.new_zeros(shape)

    def states(self, first: Tensor, lengths: Tensor | None) -> Tensor:
        """An array of states that begins with ``first`` [B, H] where each row's visit begins."""
        states = self.new(first, self.time + 1, *first.shape)
        if self.reverse:
            states[self.starts(first, lengths)] = first
        else:
            states[0] = first
        return states

    def final(self, states: Tensor, lengths: Tensor | None) -> Tensor:
        """[B, H] where each row's visit ends."""
        return (states[0] if self.reverse else states[self.starts(states[0], lengths)]).clone()

    def starts(self, rows: Tensor, lengths: Tensor | None) -> Any:
        """The index of the state behind each row's last valid step."""
        return self.time if lengths is None else (lengths, torch.arange(rows.shape[0], device=rows.device))


class Recurrence(NamedTuple):
    """The recurrent product of one direction of one layer, and the steps it is made at."""

    weight: Tensor  # [G*H, H] W_hh
    bias: Tensor | None  # [G*H] b_hh, where the cell needs the product by itself
    mask: Tensor | None  # [B, H] of h before the product
    sweep: Sweep

    def into(self, h: Tensor, gates: Tensor) -> Callable[[int, Tensor], Tensor]:
        """A function (step, buffer) that writes U h + b, or U h + gates without a bias, into the buffer it returns."""
        weight, before = self.weight.t(), self.sweep.rows(self.sweep.before(h))
        masks = None if self.mask is None else self.sweep.some(self.mask)
        added = self.sweep.rows(gates) if self.bias is None else [self.bias] * self.sweep.time

        def product(t: int, out: Tensor) -> Tensor:
            read = before[t] if masks is None else before[t] * masks[t]
            return torch.addmm(added[t], read, weight, out=out)

        return product

    def gradient(self, d_products: Tensor, h: Tensor) -> Tensor:
        """[G*H, H] of the weight, one product over all steps."""
        read = self.sweep.before(h)
        read = read if self.mask is None else read * self.mask
        return d_products.flatten(0, 1).t() @ read.flatten(0, 1)


class Back:
    """The gradient of h on its way from the last step visited to the first."""

    def __init__(self, recurrence: Recurrence, weight: Tensor, d_output: Tensor, d_first: Tensor) -> None:
        self.weight, sweep = weight, recurrence.sweep
        self.d_h, self.d_output = sweep.some(d_first), sweep.rows(d_output)
        self.masks = None if recurrence.mask is None else sweep.some(recurrence.mask)

    def arrive(self, t: int) -> Tensor:
        """The gradient of what a step wrote: by way of the later steps, and of the output."""
        return self.d_h[t].add_(self.d_output[t])

    def leave(self, t: int, d_products: Tensor, add: bool = False) -> None:
        """The gradient of what a step read, through its product, in place of or on top of what is there."""
        d_h = self.d_h[t]
        if self.masks is not None:
            through = torch.mm(d_products, self.weight).mul_(self.masks[t])
            d_h.add_(through) if add else d_h.copy_(through)
        elif add:
            torch.addmm(d_h, d_products, self.weight, out=d_h)  # addmm_, which flop_counter does not know
        else:
            torch.mm(d_products, self.weight, out=d_h)


class Gradients(NamedTuple):
    """What a sweep back finds, beside the gradients of the first states."""

    gates: Tensor
    weight: Tensor
    bias: Tensor | None = None


Saved = tuple[Tensor, ...]


class RNN:
    """h' = f(gates + U h), f tanh or relu. f' follows from f, so nothing needs to be kept."""

    own_bias = False  # whether the product and its bias are needed apart from the gates

    def __init__(self, activate: Callable[[Tensor], Tensor], slope: Callable[[Tensor], Tensor]) -> None:
        self.activate, self.slope = activate, slope

    def forward(self, recurrence: Recurrence, gates: Tensor, states: list[Tensor]) -> Saved:
        """Fill the arrays of states; what the backward needs beside them."""
        sweep, (h,) = recurrence.sweep, states
        product, after = recurrence.into(h, gates), sweep.rows(sweep.after(h))
        for t in sweep.visit():
            self.activate(product(t, after[t]))
        return ()

    def backward(
        self, recurrence: Recurrence, states: list[Tensor], saved: Saved, d_output: Tensor, d_states: list[Tensor]
    ) -> Gradients:
        """Turn the gradients of the last states into those of the first, in place."""
        sweep, (h,) = recurrence.sweep, states
        slopes, d_gates = self.slope(sweep.after(h)), sweep.new(h, *d_output.shape)
        rows_slopes, rows_gates = sweep.rows(slopes), sweep.rows(d_gates)
        back = Back(recurrence, recurrence.weight, d_output, d_states[0])
        for t in reversed(sweep.visit()):
            back.leave(t, torch.mul(back.arrive(t), rows_slopes[t], out=rows_gates[t]))
        return Gradients(d_gates, recurrence.gradient(d_gates, h))


class LSTM:
    """i, f, o = sigmoid, g = tanh of gates + U h; c' = f c + i g; h' = o tanh(c')."""

    own_bias = False

    def forward(self, recurrence: Recurrence, gates: Tensor, states: list[Tensor]) -> Saved:
        """See ``RNN``."""
        sweep, (h, c) = recurrence.sweep, states
        product, squashed = recurrence.into(h, gates), sweep.new(h, sweep.time, *h.shape[1:])
        gates = sweep.new(h, *gates.shape)
        rows_gates, rows_if = sweep.rows(gates), sweep.rows(gates[..., : 2 * h.shape[-1]])
        i, f, g, o = (sweep.rows(gate) for gate in gates.chunk(4, -1))
        c_before, c_after, h_after = (sweep.rows(array) for array in (sweep.before(c), sweep.after(c), sweep.after(h)))
        rows_squashed = sweep.rows(squashed)
        for t in sweep.visit():
            product(t, rows_gates[t])
            rows_if[t].sigmoid_()
            g[t].tanh_()
            o[t].sigmoid_()
            torch.mul(f[t], c_before[t], out=c_after[t]).addcmul_(i[t], g[t])
            torch.mul(o[t], torch.tanh(c_after[t], out=rows_squashed[t]), out=h_after[t])
        return gates, squashed

    def backward(
        self, recurrence: Recurrence, states: list[Tensor], saved: Saved, d_output: Tensor, d_states: list[Tensor]
    ) -> Gradients:
        """See ``RNN``. dc += dh o (1 - tanh² c'); i, f, g get dc times what they multiplied; dc goes on times f."""
        sweep, (h, c), (gates, squashed) = recurrence.sweep, states, saved
        i, f, g, o = gates.chunk(4, -1)
        to_c, to_o = o * (1 - squashed * squashed), squashed * o * (1 - o)
        to_ifg = torch.stack((g * i * (1 - i), sweep.before(c) * f * (1 - f), i * (1 - g * g)), -2)
        d_gates = sweep.new(h, *gates.shape)
        four = d_gates.unflatten(-1, (4, -1))
        rows_gates, rows_ifg, rows_o = (sweep.rows(part) for part in (d_gates, four[..., :3, :], four[..., 3, :]))
        rows_to_c, rows_to_ifg, rows_to_o, rows_f = (sweep.rows(factor) for factor in (to_c, to_ifg, to_o, f))
        back = Back(recurrence, recurrence.weight, d_output, d_states[0])
        rows_c, rows_c1 = sweep.some(d_states[1]), sweep.some(d_states[1].unsqueeze(1))
        for t in reversed(sweep.visit()):
            d_h = back.arrive(t)
            rows_c[t].addcmul_(d_h, rows_to_c[t])
            torch.mul(rows_c1[t], rows_to_ifg[t], out=rows_ifg[t])
            torch.mul(d_h, rows_to_o[t], out=rows_o[t])
            rows_c[t].mul_(rows_f[t])
            back.leave(t, rows_gates[t])
        return Gradients(d_gates, recurrence.gradient(d_gates, h))


class GRU:
    """r, z = sigmoid(gates + U h + b); n = tanh(gates + r (U h + b)); h' = n + z (h - n)."""

    own_bias = True

    def forward(self, recurrence: Recurrence, gates: Tensor, states: list[Tensor]) -> Saved:
        """See ``RNN``."""
        sweep, (h,), units = recurrence.sweep, states, recurrence.weight.shape[-1]
        bias = h.new_zeros(3 * units) if recurrence.bias is None else recurrence.bias
        product = recurrence._replace(bias=bias).into(h, gates)
        products, squashed = sweep.new(h, *gates.shape), sweep.new(h, *gates.shape)
        x_rz, u_rz, rz = (sweep.rows(array[..., : 2 * units]) for array in (gates, products, squashed))
        x_n, u_n, n = (sweep.rows(array[..., 2 * units :]) for array in (gates, products, squashed))
        r, z = sweep.rows(squashed[..., :units]), sweep.rows(squashed[..., units : 2 * units])
        rows, before, after = sweep.rows(products), sweep.rows(sweep.before(h)), sweep.rows(sweep.after(h))
        for t in sweep.visit():
            product(t, rows[t])
            torch.add(x_rz[t], u_rz[t], out=rz[t]).sigmoid_()
            torch.addcmul(x_n[t], r[t], u_n[t], out=n[t]).tanh_()
            torch.lerp(n[t], before[t], z[t], out=after[t])
        return squashed, products

    def backward(
        self, recurrence: Recurrence, states: list[Tensor], saved: Saved, d_output: Tensor, d_states: list[Tensor]
    ) -> Gradients:
        """See ``RNN``. Side by side: r dn, dr, dz, dn; the first three are the product's, the last three the gates'."""
        sweep, (h,), (squashed, products) = recurrence.sweep, states, saved
        (r, z, n), units = squashed.chunk(3, -1), h.shape[-1]
        to_n = (1 - z) * (1 - n * n)
        to_r, to_z = to_n * products[..., 2 * units :] * r * (1 - r), (sweep.before(h) - n) * z * (1 - z)
        factors = torch.stack((to_n * r, to_r, to_z, to_n), -2)
        found = sweep.new(h, *h[1:].shape[:2], 4 * units)
        rows_factors, rows_four, rows_z = sweep.rows(factors), sweep.rows(found.unflatten(-1, (4, -1))), sweep.rows(z)
        d_products = found[..., : 3 * units]
        rows_products = sweep.rows(d_products)
        back = Back(recurrence, recurrence.weight.roll(units, 0), d_output, d_states[0])  # rows in the order n, r, z
        for t in reversed(sweep.visit()):
            d_h = back.arrive(t)
            torch.mul(d_h.unsqueeze(1), rows_factors[t], out=rows_four[t])
            d_h.mul_(rows_z[t])
            back.leave(t, rows_products[t], add=True)
        d_weight, d_bias = recurrence.gradient(d_products, h), d_products.sum((0, 1))
        return Gradients(found[..., units:], d_weight.roll(-units, 0), d_bias.roll(-units))


CELLS: dict[str, Any] = {  # by a cell's native_mode
    "RNN_TANH": RNN(torch.tanh_, lambda h: 1 - h * h),
    "RNN_RELU": RNN(torch.relu_, lambda h: (h > 0).to(h.dtype)),
    "LSTM": LSTM(),
    "GRU": GRU(),
}


class Unroll(torch.autograd.Function):
    """One direction of one layer over all steps, as one node of the graph.

    Takes a name of ``CELLS``, the sweep, lengths [B] or None, gates [T, B, G*H] (x W_ih^T + b_ih, with b_hh where the
    cell has no use for it alone), some element of gates (by which a second derivative is noticed without keeping them
    all), W_hh, b_hh or None, a mask [B, H] of h before the product or None, and the first state [B, H] a field. Gives
    the outputs [T, B, H] and the last state a field.
    """

    @staticmethod
    def forward(
        ctx: Any,
        cell: str,
        sweep: Sweep,
        lengths: Tensor | None,
        gates: Tensor,
        trace: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        mask: Tensor | None,
        *first: Tensor,
    ) -> tuple[Tensor, ...]:
        """See the class."""
        states = [sweep.states(field, lengths) for field in first]
        saved = CELLS[cell].forward(Recurrence(weight, bias, mask, sweep), gates, states)
        ctx.cell, ctx.sweep, ctx.fields = cell, sweep, len(states)
        ctx.save_for_backward(trace, weight, bias, mask, *first, *states, *saved)
        return sweep.after(states[0]).clone(), *(sweep.final(array, lengths) for array in states)

    @staticmethod
    def backward(ctx: Any, d_output: Tensor, *d_last: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of gates, weight, bias and first states."""
        trace, weight, bias, mask, *rest = ctx.saved_tensors
        first, states, saved = rest[: ctx.fields], rest[ctx.fields : 2 * ctx.fields], tuple(rest[2 * ctx.fields :])
        d_states = [gradient.clone() for gradient in d_last]
        with torch.no_grad():
            recurrence = Recurrence(weight, bias, mask, ctx.sweep)
            found = CELLS[ctx.cell].backward(recurrence, states, saved, d_output, d_states)
        results = (found.gates, found.weight, *d_states)
        d_gates, d_weight, *d_first = only_once("eager", results, (trace, weight, *first, d_output, *d_last))
        return None, None, None, d_gates, None, d_weight, found.bias if bias is not None else None, None, *d_first

// The cells: what happens to one hidden unit in one step, forward and backward. Everything else is the driver's.
//
//   inputs    gate inputs a unit gets from x: the blocks of W_ih, in torch's order
//   products  gate inputs it gets from h: the blocks of W_hh
//   additive  x and h enter only as their sum (products == inputs): it comes in x, p is not read, and dp is dx
//   states    what a unit carries from step to step, h first
//   saved     activations the backward wants beside the previous state
#pragma once

#include "vec_math.h"

namespace deep_rnn {

// torch.nn.RNN: h' = f(x + W h + b). The slopes of tanh and relu follow from their values.
template <bool Relu>
struct Rnn {
  static constexpr int inputs = 1, products = 1, states = 1, saved = 1;
  static constexpr bool additive = true;

  template <class V>
  static void forward(const V* x, const V*, const V*, V* next, V* saved) {
    saved[0] = next[0] = Relu ? relu(x[0]) : tanh(x[0]);
  }

  template <class V>
  static void backward(const V* saved, const V*, const V* dnext, V* dx, V*, V* dprev) {
    dx[0] = Relu ? (saved[0] <= 0 ? V{} : dnext[0]) : dnext[0] * (1 - saved[0] * saved[0]);
    dprev[0] = V{};
  }
};

// torch.nn.LSTM, gates i f g o: c' = f c + i g, h' = o tanh(c').
struct Lstm {
  static constexpr int inputs = 4, products = 4, states = 2, saved = 4;
  static constexpr bool additive = true;

  template <class V>
  static void forward(const V* x, const V*, const V* prev, V* next, V* saved) {
    const V i = sigmoid(x[0]), f = sigmoid(x[1]), g = tanh(x[2]), o = sigmoid(x[3]);
    next[1] = f * prev[1] + i * g;
    next[0] = o * tanh(next[1]);
    saved[0] = i, saved[1] = f, saved[2] = g, saved[3] = o;
  }

  template <class V>
  static void backward(const V* saved, const V* prev, const V* dnext, V* dx, V*, V* dprev) {
    const V i = saved[0], f = saved[1], g = saved[2], o = saved[3];
    const V y = tanh(f * prev[1] + i * g);  // cheaper to compute again than to keep
    const V dc = dnext[1] + dnext[0] * o * (1 - y * y);
    dx[0] = dc * g * i * (1 - i);
    dx[1] = dc * prev[1] * f * (1 - f);
    dx[2] = dc * i * (1 - g * g);
    dx[3] = dnext[0] * y * o * (1 - o);
    dprev[0] = V{};
    dprev[1] = dc * f;
  }
};

// torch.nn.GRU, gates r z n, reset after the product: n = tanh(x_n + r (W_n h + b_n)), h' = n + z (h - n).
struct Gru {
  static constexpr int inputs = 3, products = 3, states = 1, saved = 4;
  static constexpr bool additive = false;

  template <class V>
  static void forward(const V* x, const V* p, const V* prev, V* next, V* saved) {
    const V r = sigmoid(x[0] + p[0]), z = sigmoid(x[1] + p[1]), n = tanh(x[2] + r * p[2]);
    next[0] = n + z * (prev[0] - n);
    saved[0] = r, saved[1] = z, saved[2] = n, saved[3] = p[2];
  }

  template <class V>
  static void backward(const V* saved, const V* prev, const V* dnext, V* dx, V* dp, V* dprev) {
    const V r = saved[0], z = saved[1], n = saved[2];
    dx[2] = dnext[0] * (1 - z) * (1 - n * n);
    dx[1] = dnext[0] * (prev[0] - n) * z * (1 - z);
    dx[0] = dx[2] * saved[3] * r * (1 - r);
    dp[0] = dx[0], dp[1] = dx[1], dp[2] = dx[2] * r;
    dprev[0] = dnext[0] * z;
  }
};

}  // namespace deep_rnn

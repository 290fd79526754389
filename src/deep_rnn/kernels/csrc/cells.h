// The cells: what happens to one hidden unit in one step, forward and backward. Everything else is the driver's.
//
//   inputs    gate inputs a unit gets from x: the blocks of W_ih, in torch's order
//   products  gate inputs it gets from h: the blocks of W_hh
//   additive  x and h enter only as their sum (products == inputs): it comes in x, p is not read, and dp is dx
//   states    what a unit carries from step to step, h first
//   saved     activations the backward wants beside the previous state
//
// What a cell is beyond that, it says by hiding a member of CellBase.
#pragma once

#include <array>

#include "vec_math.h"

namespace deep_rnn {

// What a unit's step may read beside its gates and its state; as it stands it changes nothing.
template <class V>
struct Unit {
  V drop = V{} + 1;            // dropout of the candidate
  V mask = V{} + 1;            // dropout of the state, for what no recurrent product reads
  const V* weights = nullptr;  // one of each of the cell's vectors
  V* grads = nullptr;          // backward: added to the gradients of these
  const ElementOf<V>* constants = nullptr;
};

// What stands between the two halves of a step that has two: a second product, or a layer norm, of what the first half
// (`begin`, and `begin_back`) leaves.
enum class Middle { none, product, norm };

struct CellBase {
  static constexpr std::array<const char*, 0> vectors{};  // parameters with one value a unit
  static constexpr int sources = 1;                       // fields of the state that the recurrent product reads, h first
  static constexpr bool reads_x = false;                  // whether the last input block is x itself, as wide as the cell
  static constexpr Middle middle = Middle::none;
  static constexpr int middle_products = 0;  // gate inputs from the second product: added to x behind those of the first
  static constexpr const char* matrix = "weight_hh";
  static constexpr const char* middle_matrix = nullptr;  // null: the rows of `matrix` behind those of the first product
  static constexpr std::array<int, 0> norm_groups{};     // gates that a layer norm of the products takes together
};

// torch.nn.RNN: h' = f(x + W h + b). The slopes of tanh and relu follow from their values.
template <bool Relu>
struct Rnn : CellBase {
  static constexpr int inputs = 1, products = 1, states = 1, saved = 1;
  static constexpr bool additive = true;

  template <class V>
  static void forward(const V* x, const V*, const V*, V* next, V* saved, const Unit<V>& unit = {}) {
    saved[0] = Relu ? relu(x[0]) : tanh(x[0]);
    next[0] = saved[0] * unit.drop;
  }

  template <class V>
  static void backward(const V* saved, const V*, const V* dnext, V* dx, V*, V* dprev, const Unit<V>& unit = {}) {
    const V dg = dnext[0] * unit.drop;
    dx[0] = Relu ? (saved[0] <= 0 ? V{} : dg) : dg * (1 - saved[0] * saved[0]);
    dprev[0] = V{};
  }
};

// torch.nn.LSTM, gates i f g o: c' = f c + i g, h' = o tanh(c').
struct Lstm : CellBase {
  static constexpr int inputs = 4, products = 4, states = 2, saved = 4;
  static constexpr bool additive = true;

  template <class V>
  static void forward(const V* x, const V*, const V* prev, V* next, V* saved, const Unit<V>& unit = {}) {
    const V i = sigmoid(x[0]), f = sigmoid(x[1]), g = tanh(x[2]), o = sigmoid(x[3]);
    next[1] = f * prev[1] + i * (g * unit.drop);
    next[0] = o * tanh(next[1]);
    saved[0] = i, saved[1] = f, saved[2] = g, saved[3] = o;
  }

  template <class V>
  static void backward(const V* saved, const V* prev, const V* dnext, V* dx, V*, V* dprev, const Unit<V>& unit = {}) {
    const V i = saved[0], f = saved[1], g = saved[2], o = saved[3];
    const V y = tanh(f * prev[1] + i * (g * unit.drop));  // cheaper to compute again than to keep
    const V dc = dnext[1] + dnext[0] * o * (1 - y * y);
    dx[0] = dc * (g * unit.drop) * i * (1 - i);
    dx[1] = dc * prev[1] * f * (1 - f);
    dx[2] = dc * i * unit.drop * (1 - g * g);
    dx[3] = dnext[0] * y * o * (1 - o);
    dprev[0] = V{};
    dprev[1] = dc * f;
  }
};

// torch.nn.GRU, gates r z n, reset after the product: n = tanh(x_n + r (W_n h + b_n)), h' = n + z (h - n).
struct Gru : CellBase {
  static constexpr int inputs = 3, products = 3, states = 1, saved = 4;
  static constexpr bool additive = false;
  static constexpr std::array norm_groups{2, 1};

  template <class V>
  static void forward(const V* x, const V* p, const V* prev, V* next, V* saved, const Unit<V>& unit = {}) {
    const V r = sigmoid(x[0] + p[0]), z = sigmoid(x[1] + p[1]), n = tanh(x[2] + r * p[2]), kept = n * unit.drop;
    next[0] = kept + z * (prev[0] - kept);
    saved[0] = r, saved[1] = z, saved[2] = n, saved[3] = p[2];
  }

  template <class V>
  static void backward(const V* saved, const V* prev, const V* dnext, V* dx, V* dp, V* dprev, const Unit<V>& unit = {}) {
    const V r = saved[0], z = saved[1], n = saved[2];
    dx[2] = dnext[0] * (1 - z) * unit.drop * (1 - n * n);
    dx[1] = dnext[0] * (prev[0] - n * unit.drop) * z * (1 - z);
    dx[0] = dx[2] * saved[3] * r * (1 - r);
    dp[0] = dx[0], dp[1] = dx[1], dp[2] = dx[2] * r;
    dprev[0] = dnext[0] * z;
  }
};

}  // namespace deep_rnn

// Gated cells beside torch's own: of one recurrent product, then of two in a row. The equations are in src/deep_rnn/cells.
#pragma once

#include "cells.h"

namespace deep_rnn {

struct GatedCell : CellBase {
  static constexpr bool additive = true;
};

// LSTM whose gates see the memory, o the new one.
struct Peephole : GatedCell {
  static constexpr int inputs = 4, products = 4, states = 2, saved = 4;
  static constexpr std::array vectors{"weight_ci", "weight_cf", "weight_co"};

  template <class V>
  static void forward(const V* x, const V*, const V* prev, V* next, V* saved, const Unit<V>& unit) {
    const V* w = unit.weights;
    const V i = sigmoid(x[0] + w[0] * prev[1]), f = sigmoid(x[1] + w[1] * prev[1]), g = tanh(x[2]);
    next[1] = f * prev[1] + i * (g * unit.drop);
    const V o = sigmoid(x[3] + w[2] * next[1]);
    next[0] = o * tanh(next[1]);
    saved[0] = i, saved[1] = f, saved[2] = g, saved[3] = o;
  }

  template <class V>
  static void backward(const V* saved, const V* prev, const V* dnext, V* dx, V*, V* dprev, const Unit<V>& unit) {
    const V i = saved[0], f = saved[1], g = saved[2], o = saved[3], *w = unit.weights;
    const V c = f * prev[1] + i * (g * unit.drop), y = tanh(c);
    dx[3] = dnext[0] * y * o * (1 - o);
    const V dc = dnext[1] + dnext[0] * o * (1 - y * y) + dx[3] * w[2];
    dx[0] = dc * (g * unit.drop) * i * (1 - i);
    dx[1] = dc * prev[1] * f * (1 - f);
    dx[2] = dc * i * unit.drop * (1 - g * g);
    unit.grads[0] = dx[0] * prev[1], unit.grads[1] = dx[1] * prev[1], unit.grads[2] = dx[3] * c;
    dprev[0] = V{};
    dprev[1] = dc * f + dx[0] * w[0] + dx[1] * w[1];
  }
};

// LSTM with i = 1 - f, gates f g o.
struct Cifg : GatedCell {
  static constexpr int inputs = 3, products = 3, states = 2, saved = 3;

  template <class V>
  static void forward(const V* x, const V*, const V* prev, V* next, V* saved, const Unit<V>& unit) {
    const V f = sigmoid(x[0]), g = tanh(x[1]), o = sigmoid(x[2]);
    next[1] = f * prev[1] + (1 - f) * (g * unit.drop);
    next[0] = o * tanh(next[1]);
    saved[0] = f, saved[1] = g, saved[2] = o;
  }

  template <class V>
  static void backward(const V* saved, const V* prev, const V* dnext, V* dx, V*, V* dprev, const Unit<V>& unit) {
    const V f = saved[0], g = saved[1], o = saved[2], kept = g * unit.drop;
    const V y = tanh(f * prev[1] + (1 - f) * kept);
    const V dc = dnext[1] + dnext[0] * o * (1 - y * y);
    dx[0] = dc * (prev[1] - kept) * f * (1 - f);
    dx[1] = dc * (1 - f) * unit.drop * (1 - g * g);
    dx[2] = dnext[0] * y * o * (1 - o);
    dprev[0] = V{};
    dprev[1] = dc * f;
  }
};

// Gates f g, constant beta: h' = sigmoid(f) h + sigmoid(beta - f) tanh(g).
struct Janet : GatedCell {
  static constexpr int inputs = 2, products = 2, states = 1, saved = 3;

  template <class V>
  static void forward(const V* x, const V*, const V* prev, V* next, V* saved, const Unit<V>& unit) {
    const V f = sigmoid(x[0]), i = sigmoid(unit.constants[0] - x[0]), g = tanh(x[1]);
    next[0] = f * prev[0] + i * (g * unit.drop);
    saved[0] = f, saved[1] = g, saved[2] = i;
  }

  template <class V>
  static void backward(const V* saved, const V* prev, const V* dnext, V* dx, V*, V* dprev, const Unit<V>& unit) {
    const V f = saved[0], g = saved[1], i = saved[2];
    dx[0] = dnext[0] * (prev[0] * f * (1 - f) - g * unit.drop * i * (1 - i));
    dx[1] = dnext[0] * i * unit.drop * (1 - g * g);
    dprev[0] = dnext[0] * f;
  }
};

// One gate k that keeps the state, one candidate n: h' = k h + (1 - k) n. Keep and Candidate are their blocks; Update: the
// gate is 1 - k; Relu: n's function, else tanh.
template <int Keep, int Candidate, bool Update, bool Relu>
struct OneGate : GatedCell {
  static constexpr int inputs = 2, products = 2, states = 1, saved = 2;
  static constexpr std::array norm_groups{2};

  template <class V>
  static void forward(const V* x, const V*, const V* prev, V* next, V* saved, const Unit<V>& unit) {
    const V k = sigmoid(Update ? -x[Keep] : x[Keep]), n = Relu ? relu(x[Candidate]) : tanh(x[Candidate]), kept = n * unit.drop;
    next[0] = kept + k * (prev[0] - kept);
    saved[Keep] = k, saved[Candidate] = n;
  }

  template <class V>
  static void backward(const V* saved, const V* prev, const V* dnext, V* dx, V*, V* dprev, const Unit<V>& unit) {
    const V k = saved[Keep], n = saved[Candidate], dn = dnext[0] * (1 - k) * unit.drop;
    const V dk = dnext[0] * (prev[0] - n * unit.drop) * k * (1 - k);
    dx[Keep] = Update ? -dk : dk;
    dx[Candidate] = Relu ? (n <= 0 ? V{} : dn) : dn * (1 - n * n);
    dprev[0] = dnext[0] * k;
  }
};

using Ugrnn = OneGate<1, 0, false, false>;
using LightGru = OneGate<0, 1, false, true>;
using Rhn = OneGate<1, 0, true, false>;

// h' = h + epsilon tanh(x + p), or with a second gate on the same product, epsilon sigmoid(z + p) tanh(x + p).
template <bool Gated>
struct Antisymmetric : CellBase {
  static constexpr int inputs = 1 + Gated, products = 1, states = 1, saved = 1 + Gated;
  static constexpr bool additive = false;

  template <class V>
  static void forward(const V* x, const V* p, const V* prev, V* next, V* saved, const Unit<V>& unit) {
    saved[0] = tanh(x[0] + p[0]);
    V change = saved[0] * unit.drop;
    if constexpr (Gated) saved[1] = sigmoid(x[1] + p[0]), change *= saved[1];
    next[0] = prev[0] + unit.constants[0] * change;
  }

  template <class V>
  static void backward(const V* saved, const V*, const V* dnext, V* dx, V* dp, V* dprev, const Unit<V>& unit) {
    const V d = unit.constants[0] * dnext[0] * unit.drop, g = saved[0];
    dx[0] = dp[0] = d * (1 - g * g);
    if constexpr (Gated) {
      const V z = saved[1];
      dx[0] *= z;
      dx[1] = d * g * z * (1 - z);
      dp[0] = dx[0] + dx[1];
    }
    dprev[0] = dnext[0];
  }
};

// Oscillators y with velocity z, constants dt gamma epsilon; the product reads both.
struct CoRnn : GatedCell {
  static constexpr int inputs = 1, products = 1, states = 2, saved = 1, sources = 2;

  template <class V>
  static void forward(const V* x, const V*, const V* prev, V* next, V* saved, const Unit<V>& unit) {
    const auto* c = unit.constants;
    saved[0] = tanh(x[0]);
    next[1] = prev[1] + c[0] * (saved[0] * unit.drop - c[1] * prev[0] - c[2] * prev[1]);
    next[0] = prev[0] + c[0] * next[1];
  }

  template <class V>
  static void backward(const V* saved, const V*, const V* dnext, V* dx, V*, V* dprev, const Unit<V>& unit) {
    const auto* c = unit.constants;
    const V dz = dnext[1] + c[0] * dnext[0], force = c[0] * dz;
    dx[0] = force * unit.drop * (1 - saved[0] * saved[0]);
    dprev[0] = dnext[0] - c[1] * force;
    dprev[1] = dz - c[2] * force;
  }
};

// Of two products.

struct TwoProducts : GatedCell {
  static constexpr Middle middle = Middle::product;
};

// Gates r z n, reset before the product: n = tanh(x_n + W_n (r h)), h' = n + z (h - n).
struct GruBefore : TwoProducts {
  static constexpr int inputs = 3, products = 2, middle_products = 1, states = 1, saved = 3;
  static constexpr std::array norm_groups{2, 1};

  template <class V>
  static void begin(const V* x, const V*, const V* prev, V& middle, V* saved, const Unit<V>& unit) {
    saved[0] = sigmoid(x[0]), saved[1] = sigmoid(x[1]);
    middle = saved[0] * prev[0] * unit.mask;
  }

  template <class V>
  static void forward(const V* x, const V*, const V* prev, V* next, V* saved, const Unit<V>& unit) {
    saved[2] = tanh(x[2]);
    const V kept = saved[2] * unit.drop;
    next[0] = kept + saved[1] * (prev[0] - kept);
  }

  template <class V>
  static void backward(const V* saved, const V* prev, const V* dnext, V* dx, V*, V* dprev, const Unit<V>& unit) {
    const V z = saved[1], n = saved[2];
    dx[2] = dnext[0] * (1 - z) * unit.drop * (1 - n * n);
    dx[1] = dnext[0] * (prev[0] - n * unit.drop) * z * (1 - z);
    dprev[0] = dnext[0] * z;
  }

  template <class V>
  static void begin_back(const V* saved, const V* prev, V dmiddle, V* dx, V*, V* dprev, const Unit<V>& unit) {
    const V r = saved[0], d = dmiddle * unit.mask;
    dx[0] = d * prev[0] * r * (1 - r);
    dprev[0] += d * r;
  }
};

// Gates f n: n = tanh(x_n + W_n (f h)), h' = h + f (n - h).
struct Mgu : TwoProducts {
  static constexpr int inputs = 2, products = 1, middle_products = 1, states = 1, saved = 2;

  template <class V>
  static void begin(const V* x, const V*, const V* prev, V& middle, V* saved, const Unit<V>& unit) {
    saved[0] = sigmoid(x[0]);
    middle = saved[0] * prev[0] * unit.mask;
  }

  template <class V>
  static void forward(const V* x, const V*, const V* prev, V* next, V* saved, const Unit<V>& unit) {
    saved[1] = tanh(x[1]);
    next[0] = prev[0] + saved[0] * (saved[1] * unit.drop - prev[0]);
  }

  template <class V>
  static void backward(const V* saved, const V* prev, const V* dnext, V* dx, V*, V* dprev, const Unit<V>& unit) {
    const V f = saved[0], n = saved[1];
    dx[0] = dnext[0] * (n * unit.drop - prev[0]) * f * (1 - f);
    dx[1] = dnext[0] * f * unit.drop * (1 - n * n);
    dprev[0] = dnext[0] * (1 - f);
  }

  template <class V>
  static void begin_back(const V* saved, const V* prev, V dmiddle, V* dx, V*, V* dprev, const Unit<V>& unit) {
    const V f = saved[0], d = dmiddle * unit.mask;
    dx[0] += d * prev[0] * f * (1 - f);
    dprev[0] += d * f;
  }
};

// Gates a d z y, constant dt: z' = z + a (tanh(x_z) - z), then y' = y + d (tanh(x_y + W_y z') - y), a and d times dt.
struct Lem : TwoProducts {
  static constexpr int inputs = 4, products = 3, middle_products = 1, states = 2, saved = 4;
  static constexpr const char* middle_matrix = "weight_hh_y";

  template <class V>
  static V slow(const V* saved, const V* prev, const Unit<V>& unit) {
    return prev[1] + unit.constants[0] * saved[0] * (saved[2] * unit.drop - prev[1]);
  }

  template <class V>
  static void begin(const V* x, const V*, const V* prev, V& middle, V* saved, const Unit<V>& unit) {
    saved[0] = sigmoid(x[0]), saved[1] = sigmoid(x[1]), saved[2] = tanh(x[2]);
    middle = slow(saved, prev, unit) * unit.mask;
  }

  template <class V>
  static void forward(const V* x, const V*, const V* prev, V* next, V* saved, const Unit<V>& unit) {
    saved[3] = tanh(x[3]);
    next[0] = prev[0] + unit.constants[0] * saved[1] * (saved[3] * unit.drop - prev[0]);
    next[1] = slow(saved, prev, unit);
  }

  template <class V>
  static void backward(const V* saved, const V* prev, const V* dnext, V* dx, V*, V* dprev, const Unit<V>& unit) {
    const V d = saved[1], pull = saved[3], dy = dnext[0] * unit.constants[0];
    dx[1] = dy * (pull * unit.drop - prev[0]) * d * (1 - d);
    dx[3] = dy * d * unit.drop * (1 - pull * pull);
    dprev[0] = dnext[0] - dy * d;
    dprev[1] = dnext[1];
  }

  template <class V>
  static void begin_back(const V* saved, const V* prev, V dmiddle, V* dx, V*, V* dprev, const Unit<V>& unit) {
    const V a = saved[0], g = saved[2], total = dprev[1] + dmiddle * unit.mask, dz = total * unit.constants[0];
    dx[0] = dz * (g * unit.drop - prev[1]) * a * (1 - a);
    dx[2] = dz * a * unit.drop * (1 - g * g);
    dprev[1] = total - dz * a;
  }
};

// LSTM that reads m = x_m * (W_m h) in place of h, gates i f g o m.
struct MultiplicativeLstm : CellBase {
  static constexpr int inputs = 5, products = 1, middle_products = 4, states = 2, saved = 6;
  static constexpr bool additive = false;
  static constexpr Middle middle = Middle::product;
  static constexpr const char *matrix = "weight_hh_m", *middle_matrix = "weight_hh";

  template <class V>
  static void begin(const V* x, const V* p, const V*, V& middle, V* saved, const Unit<V>&) {
    saved[5] = p[0];
    middle = x[4] * p[0];
  }

  template <class V>
  static void forward(const V* x, const V* p, const V* prev, V* next, V* saved, const Unit<V>& unit) {
    Lstm::forward(x, p, prev, next, saved, unit);
  }

  template <class V>
  static void backward(const V* saved, const V* prev, const V* dnext, V* dx, V* dp, V* dprev, const Unit<V>& unit) {
    Lstm::backward(saved, prev, dnext, dx, dp, dprev, unit);
  }

  template <class V>
  static void begin_back(const V* saved, const V*, V dmiddle, V* dx, V* dp, V*, const Unit<V>&) {
    dx[4] = dmiddle * saved[5];
    dp[0] = dmiddle * saved[4];
  }
};

// With a layer norm in the middle of the step.

// h' = f(LN(x + W h)).
template <bool Relu>
struct NormedRnn : GatedCell {
  static constexpr int inputs = 1, products = 1, states = 1, saved = 1;
  static constexpr Middle middle = Middle::norm;

  template <class V>
  static void begin(const V* x, const V*, const V*, V& middle, V*, const Unit<V>&) {
    middle = x[0];
  }

  template <class V>
  static void forward(const V*, const V* p, const V* prev, V* next, V* saved, const Unit<V>& unit) {
    Rnn<Relu>::forward(p, p, prev, next, saved, unit);
  }

  template <class V>
  static void backward(const V* saved, const V* prev, const V* dnext, V*, V* dp, V* dprev, const Unit<V>& unit) {
    Rnn<Relu>::backward(saved, prev, dnext, dp, dp, dprev, unit);
  }

  template <class V>
  static void begin_back(const V*, const V*, V dmiddle, V* dx, V*, V*, const Unit<V>&) {
    dx[0] = dmiddle;
  }
};

// LSTM with h' = o tanh(LN(c')).
struct NormedLstm : GatedCell {
  static constexpr int inputs = 4, products = 4, states = 2, saved = 5;
  static constexpr Middle middle = Middle::norm;
  static constexpr std::array norm_groups{4};

  template <class V>
  static V memory(const V* saved, const V* prev, const Unit<V>& unit) {
    return saved[1] * prev[1] + saved[0] * (saved[2] * unit.drop);
  }

  template <class V>
  static void begin(const V* x, const V*, const V* prev, V& middle, V* saved, const Unit<V>& unit) {
    saved[0] = sigmoid(x[0]), saved[1] = sigmoid(x[1]), saved[2] = tanh(x[2]), saved[3] = sigmoid(x[3]);
    middle = memory(saved, prev, unit);
  }

  template <class V>
  static void forward(const V*, const V* p, const V* prev, V* next, V* saved, const Unit<V>& unit) {
    saved[4] = tanh(p[0]);
    next[0] = saved[3] * saved[4];
    next[1] = memory(saved, prev, unit);
  }

  template <class V>
  static void backward(const V* saved, const V*, const V* dnext, V* dx, V* dp, V* dprev, const Unit<V>&) {
    const V o = saved[3], y = saved[4];
    dx[3] = dnext[0] * y * o * (1 - o);
    dp[0] = dnext[0] * o * (1 - y * y);
    dprev[0] = V{};
    dprev[1] = dnext[1];
  }

  template <class V>
  static void begin_back(const V* saved, const V* prev, V dmiddle, V* dx, V*, V* dprev, const Unit<V>& unit) {
    const V i = saved[0], f = saved[1], g = saved[2], dc = dprev[1] + dmiddle;
    dx[0] = dc * (g * unit.drop) * i * (1 - i);
    dx[1] = dc * prev[1] * f * (1 - f);
    dx[2] = dc * i * unit.drop * (1 - g * g);
    dprev[1] = dc * f;
  }
};

}  // namespace deep_rnn

// Cells whose recurrence has no matrix: a unit sees its own past only. The equations are in src/deep_rnn/cells/elementwise.py.
#pragma once

#include "cells.h"

namespace deep_rnn {

struct ElementwiseCell : CellBase {
  static constexpr int products = 0;
  static constexpr bool additive = true;
};

// A sigmoid that reaches 0, as it must where it meets a candidate that has no bounds and is infinite.
template <class V>
inline V gate(V x) {
  return x < ExpConstants<ElementOf<V>>::lowest ? V{} : sigmoid(x);
}

// h' = f(x + u h).
template <bool Relu>
struct IndRnn : ElementwiseCell {
  static constexpr int inputs = 1, states = 1, saved = 1;
  static constexpr std::array vectors{"weight_hh"};

  template <class V>
  static void forward(const V* x, const V*, const V* prev, V* next, V* saved, const Unit<V>& unit) {
    const V sum = x[0] + unit.weights[0] * (prev[0] * unit.mask);
    saved[0] = Relu ? relu(sum) : tanh(sum);
    next[0] = saved[0] * unit.drop;
  }

  template <class V>
  static void backward(const V* saved, const V* prev, const V* dnext, V* dx, V*, V* dprev, const Unit<V>& unit) {
    const V dg = dnext[0] * unit.drop;
    dx[0] = Relu ? (saved[0] <= 0 ? V{} : dg) : dg * (1 - saved[0] * saved[0]);
    unit.grads[0] = dx[0] * (prev[0] * unit.mask);
    dprev[0] = dx[0] * unit.weights[0] * unit.mask;
  }
};

// Gates f r, candidate g, skip s (x itself, or a product of its own): c' = f c + (1 - f) g, h' = r c' + (1 - r) s.
template <bool SkipsX>
struct Sru : ElementwiseCell {
  static constexpr int inputs = 4, states = 2, saved = 4;
  static constexpr std::array vectors{"weight_cf", "weight_cr"};
  static constexpr bool reads_x = SkipsX;

  template <class V>
  static void forward(const V* x, const V*, const V* prev, V* next, V* saved, const Unit<V>& unit) {
    const V seen = prev[1] * unit.mask, g = x[2] * unit.drop;
    const V f = gate(x[0] + unit.weights[0] * seen), r = gate(x[1] + unit.weights[1] * seen);
    next[1] = f * prev[1] + (1 - f) * g;
    next[0] = r * next[1] + (1 - r) * x[3];
    saved[0] = f, saved[1] = r, saved[2] = x[2], saved[3] = x[3];
  }

  template <class V>
  static void backward(const V* saved, const V* prev, const V* dnext, V* dx, V*, V* dprev, const Unit<V>& unit) {
    const V f = saved[0], r = saved[1], g = saved[2] * unit.drop, seen = prev[1] * unit.mask;
    const V c = f * prev[1] + (1 - f) * g, dc = dnext[1] + dnext[0] * r;
    dx[0] = dc * (prev[1] - g) * f * (1 - f);
    dx[1] = dnext[0] * (c - saved[3]) * r * (1 - r);
    dx[2] = dc * (1 - f) * unit.drop;
    dx[3] = dnext[0] * (1 - r);
    unit.grads[0] = dx[0] * seen, unit.grads[1] = dx[1] * seen;
    dprev[0] = V{};
    dprev[1] = dc * f + (dx[0] * unit.weights[0] + dx[1] * unit.weights[1]) * unit.mask;
  }
};

// Gates z f o: c' = f c + (1 - f) tanh(z), h' = o c'. With a window of k steps an input also adds to the gates of the
// k - 1 steps to come: blocks 3 j ... of x to those of the j-th, which wait in the states behind c.
template <int Window>
struct FoPool : ElementwiseCell {
  static constexpr int inputs = 3 * Window, states = 3 * Window - 1, saved = 3;

  template <class V>
  static void forward(const V* x, const V*, const V* prev, V* next, V* saved, const Unit<V>& unit) {
    constexpr int ahead = 3 * (Window - 1);
    V now[3] = {x[0], x[1], x[2]};
    if constexpr (Window > 1)
      for (int i = 0; i < 3; ++i) now[i] += prev[2 + i];
    for (int i = 0; i < ahead; ++i) next[2 + i] = i + 3 < ahead ? x[3 + i] + prev[5 + i] : x[3 + i];
    const V z = tanh(now[0]), f = sigmoid(now[1]), o = sigmoid(now[2]);
    next[1] = f * prev[1] + (1 - f) * (z * unit.drop);
    next[0] = o * next[1];
    saved[0] = z, saved[1] = f, saved[2] = o;
  }

  template <class V>
  static void backward(const V* saved, const V* prev, const V* dnext, V* dx, V*, V* dprev, const Unit<V>& unit) {
    constexpr int ahead = 3 * (Window - 1);
    const V z = saved[0], f = saved[1], o = saved[2], kept = z * unit.drop;
    const V dc = dnext[1] + dnext[0] * o;
    dx[0] = dc * (1 - f) * unit.drop * (1 - z * z);
    dx[1] = dc * (prev[1] - kept) * f * (1 - f);
    dx[2] = dnext[0] * (f * prev[1] + (1 - f) * kept) * o * (1 - o);
    dprev[0] = V{};
    dprev[1] = dc * f;
    for (int i = 0; i < ahead; ++i) {
      dx[3 + i] = dnext[2 + i];
      dprev[2 + i] = i < 3 ? dx[i] : dnext[i - 1];
    }
  }
};

// minGRU's candidate above zero: x + 1/2 from zero on, else sigmoid(x).
template <bool Positive, class V>
inline V candidate(V x) {
  return Positive ? (x >= 0 ? x + ElementOf<V>(0.5) : sigmoid(x)) : x;
}

// Its slope, by its value: 1/2 is where the two pieces meet.
template <bool Positive, class V>
inline V candidate_slope(V y) {
  return Positive ? (y >= ElementOf<V>(0.5) ? V{} + 1 : y * (1 - y)) : V{} + 1;
}

// Gate z, candidate n: h' = (1 - z) h + z n.
template <bool Positive>
struct MinGru : ElementwiseCell {
  static constexpr int inputs = 2, states = 1, saved = 2;

  template <class V>
  static void forward(const V* x, const V*, const V* prev, V* next, V* saved, const Unit<V>& unit) {
    saved[0] = gate(x[0]), saved[1] = candidate<Positive>(x[1]);
    next[0] = (1 - saved[0]) * prev[0] + saved[0] * (saved[1] * unit.drop);
  }

  template <class V>
  static void backward(const V* saved, const V* prev, const V* dnext, V* dx, V*, V* dprev, const Unit<V>& unit) {
    const V z = saved[0], n = saved[1];
    dx[0] = dnext[0] * (n * unit.drop - prev[0]) * z * (1 - z);
    dx[1] = dnext[0] * z * unit.drop * candidate_slope<Positive>(n);
    dprev[0] = dnext[0] * (1 - z);
  }
};

// Gates f i, candidate n: h' = k h + (1 - k) n with k = sigmoid(f) / (sigmoid(f) + sigmoid(i)).
template <bool Positive>
struct MinLstm : ElementwiseCell {
  static constexpr int inputs = 3, states = 1, saved = 4;

  template <class V>
  static void forward(const V* x, const V*, const V* prev, V* next, V* saved, const Unit<V>& unit) {
    // sigmoid(i) / sigmoid(f) from quotients of what cannot overflow: 1 + exp(-x) = exp(-min(x, 0)) (1 + exp(-|x|)).
    const V low_f = x[0] < 0 ? x[0] : V{}, low_i = x[1] < 0 ? x[1] : V{};
    const V away_f = x[0] < 0 ? x[0] : -x[0], away_i = x[1] < 0 ? x[1] : -x[1];
    const V ratio = exp(low_i - low_f) * (1 + exp(away_f)) / (1 + exp(away_i));
    const V k = 1 / (1 + ratio), n = candidate<Positive>(x[2]);
    next[0] = k * prev[0] + (1 - k) * (n * unit.drop);
    saved[0] = k, saved[1] = sigmoid(-x[0]), saved[2] = sigmoid(-x[1]), saved[3] = n;
  }

  template <class V>
  static void backward(const V* saved, const V* prev, const V* dnext, V* dx, V*, V* dprev, const Unit<V>& unit) {
    const V k = saved[0], n = saved[3], slope = dnext[0] * (prev[0] - n * unit.drop) * k * (1 - k);
    dx[0] = slope * saved[1];
    dx[1] = -slope * saved[2];
    dx[2] = dnext[0] * (1 - k) * unit.drop * candidate_slope<Positive>(n);
    dprev[0] = dnext[0] * k;
  }
};

}  // namespace deep_rnn

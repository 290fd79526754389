// One step of one row: a cell's functor over the vectors of a row.
#pragma once

#include "kept.h"
#include "shape.h"

namespace deep_rnn {

template <class T>
struct RowSettings {
  int64_t hidden;
  const T *mask, *drop;  // [H]; null: all ones
  const T* const* vectors;
  const T* constants;
};

template <class T>
struct Row : RowSettings<T> {
  T* line;            // [activations, H]: gate inputs; after the first half of a step what it knows of the activations
  const T* products;  // what the product before this half of the step gave, unless it was added to the line
  T* state;           // [states, H]
  Kept<T> kept;       // [activations + states, H]: the activations, and the state before the step
  T* middle;          // [H]: what the first half of a step leaves
};

template <class T>
struct RowBack : RowSettings<T> {
  const T *line, *prev;     // as the forward kept them
  T* carry;                 // [states, H]: the gradient of the state after the step, then of the one before it
  T* grad_inputs;           // [inputs, H]
  T* grad_products;         // of `products`
  const T* grad_middle;     // [H], or null
  T* const* grad_vectors;   // [H] each, added to
};

template <class T>
struct RowFunctions {
  // Of a cell whose step has one half, `last`; of others first `first`. Back the other way round.
  void (*first)(const Row<T>&);
  void (*last)(const Row<T>&);
  void (*first_back)(const RowBack<T>&);
  void (*last_back)(const RowBack<T>&);
};

// The unit behind a vector of lanes.
template <class Cell, class T>
struct UnitVectors {
  static constexpr int count = std::max<int>(1, Cell::vectors.size());
  Vec<T> weights[count], grads[count];
  Unit<Vec<T>> unit;

  UnitVectors(const RowSettings<T>& row, const Lanes<T>& lanes, int64_t at) {
    if (row.mask) unit.mask = lanes.load(row.mask + at);
    if (row.drop) unit.drop = lanes.load(row.drop + at);
    for (size_t i = 0; i < Cell::vectors.size(); ++i) weights[i] = lanes.load(row.vectors[i] + at);
    unit.weights = weights, unit.grads = grads, unit.constants = row.constants;
  }
};

template <class Cell>
constexpr int kActivationBlocks = std::max(Cell::inputs, Cell::saved);

// Products that are handed to the functor rather than added to its gate inputs: of the first half of a step, of its last.
template <class Cell>
constexpr int kFirstProducts = Cell::additive ? 0 : Cell::products;
template <class Cell>
constexpr int kLastProducts = Cell::middle == Middle::none ? kFirstProducts<Cell> : Cell::middle == Middle::norm;

template <int Count, class T>
void load_blocks(const Lanes<T>& lanes, const T* from, int64_t stride, Vec<T>* to) {
  for (int i = 0; i < Count; ++i) to[i] = lanes.load(from + i * stride);
}

template <int Count, class T>
void store_blocks(const Lanes<T>& lanes, T* to, int64_t stride, const Vec<T>* from) {
  for (int i = 0; i < Count; ++i) lanes.store(to + i * stride, from[i]);
}

template <class Cell, class T>
void last_row(const Row<T>& row) {
  constexpr int A = kActivationBlocks<Cell>, P = kLastProducts<Cell>, S = Cell::states;
  const int64_t H = row.hidden;
  for (int64_t at = 0; at < H; at += kLanes<T>) {
    const Lanes<T> lanes(H - at);
    const UnitVectors<Cell, T> vectors(row, lanes, at);
    Vec<T> x[A], saved[A], p[P + 1], prev[S], next[S];
    load_blocks<Cell::middle == Middle::none ? Cell::inputs : A>(lanes, row.line + at, H, x);
    load_blocks<P>(lanes, row.products + at, H, p);
    load_blocks<S>(lanes, row.state + at, H, prev);
    std::copy(x, x + A, saved);
    Cell::forward(x, p, prev, next, saved, vectors.unit);
    store_blocks<S>(lanes, row.state + at, H, next);
    if (!row.kept) continue;
    for (int i = 0; i < A; ++i) row.kept.store(lanes, i * H + at, saved[i]);
    for (int i = 0; i < S; ++i) row.kept.store(lanes, (A + i) * H + at, prev[i]);
  }
}

template <class Cell, class T>
void first_row(const Row<T>& row) {
  constexpr int A = kActivationBlocks<Cell>, P = kFirstProducts<Cell>, S = Cell::states;
  const int64_t H = row.hidden;
  for (int64_t at = 0; at < H; at += kLanes<T>) {
    const Lanes<T> lanes(H - at);
    const UnitVectors<Cell, T> vectors(row, lanes, at);
    Vec<T> x[A], saved[A], p[P + 1], prev[S], middle;
    load_blocks<Cell::inputs>(lanes, row.line + at, H, x);
    load_blocks<P>(lanes, row.products + at, H, p);
    load_blocks<S>(lanes, row.state + at, H, prev);
    std::copy(x, x + A, saved);
    Cell::begin(x, p, prev, middle, saved, vectors.unit);
    store_blocks<A>(lanes, row.line + at, H, saved);
    lanes.store(row.middle + at, middle);
  }
}

template <class Cell, class T>
void add_to_vectors(const RowBack<T>& row, const Lanes<T>& lanes, int64_t at, const Vec<T>* grads) {
  for (size_t i = 0; i < Cell::vectors.size(); ++i) {
    T* to = row.grad_vectors[i] + at;
    lanes.store(to, lanes.load(to) + grads[i]);
  }
}

template <class Cell, class T>
void last_row_back(const RowBack<T>& row) {
  constexpr int A = kActivationBlocks<Cell>, P = kLastProducts<Cell>, S = Cell::states, I = Cell::inputs;
  const int64_t H = row.hidden;
  for (int64_t at = 0; at < H; at += kLanes<T>) {
    const Lanes<T> lanes(H - at);
    UnitVectors<Cell, T> vectors(row, lanes, at);
    // Two-stage cells leave to the first half what only it knows; the products of additive cells are their inputs.
    Vec<T> saved[A], prev[S], dnext[S], dx[I] = {}, dp[std::max(P, Cell::products) + 1], dprev[S];
    load_blocks<A>(lanes, row.line + at, H, saved);
    load_blocks<S>(lanes, row.prev + at, H, prev);
    load_blocks<S>(lanes, row.carry + at, H, dnext);
    for (Vec<T>& grad : vectors.grads) grad = Vec<T>{};
    Cell::backward(saved, prev, dnext, dx, dp, dprev, vectors.unit);
    store_blocks<I>(lanes, row.grad_inputs + at, H, dx);
    store_blocks<P>(lanes, row.grad_products + at, H, dp);
    store_blocks<S>(lanes, row.carry + at, H, dprev);
    add_to_vectors<Cell>(row, lanes, at, vectors.grads);
  }
}

template <class Cell, class T>
void first_row_back(const RowBack<T>& row) {
  constexpr int A = kActivationBlocks<Cell>, P = kFirstProducts<Cell>, S = Cell::states, I = Cell::inputs;
  const int64_t H = row.hidden;
  for (int64_t at = 0; at < H; at += kLanes<T>) {
    const Lanes<T> lanes(H - at);
    UnitVectors<Cell, T> vectors(row, lanes, at);
    Vec<T> saved[A], prev[S], dx[I], dp[P + 1], dprev[S];
    load_blocks<A>(lanes, row.line + at, H, saved);
    load_blocks<S>(lanes, row.prev + at, H, prev);
    load_blocks<I>(lanes, row.grad_inputs + at, H, dx);
    load_blocks<S>(lanes, row.carry + at, H, dprev);
    for (Vec<T>& grad : vectors.grads) grad = Vec<T>{};
    Cell::begin_back(saved, prev, lanes.load(row.grad_middle + at), dx, dp, dprev, vectors.unit);
    store_blocks<I>(lanes, row.grad_inputs + at, H, dx);
    store_blocks<P>(lanes, row.grad_products + at, H, dp);
    store_blocks<S>(lanes, row.carry + at, H, dprev);
    add_to_vectors<Cell>(row, lanes, at, vectors.grads);
  }
}

template <class Cell, class T>
constexpr RowFunctions<T> row_functions() {
  if constexpr (Cell::middle == Middle::none)
    return {nullptr, last_row<Cell, T>, nullptr, last_row_back<Cell, T>};
  else
    return {first_row<Cell, T>, last_row<Cell, T>, first_row_back<Cell, T>, last_row_back<Cell, T>};
}

}  // namespace deep_rnn

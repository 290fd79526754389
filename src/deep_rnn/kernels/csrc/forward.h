// Forward: each slice of the batch walks from its first step to its last.
#pragma once

#include "pass.h"

namespace deep_rnn {

// Weights of a pass as the forward sweep reads them.
template <class Cell, class T>
struct ForwardWeights {
  const Pass<T>& pass;
  Packed<T> w_ih, w_hh;      // transposed: [I, inputs * H], [H, products * H]
  std::vector<T> b_ih, b_hh;  // zeros if there are none; an additive cell has both in b_ih

  explicit ForwardWeights(const Pass<T>& pass)
      : pass(pass),
        w_ih(pass.w_ih ? pass.input : 0, Cell::inputs * pass.hidden),
        w_hh(pass.hidden, Cell::products * pass.hidden),
        b_ih(Cell::inputs * pass.hidden),
        b_hh(Cell::products * pass.hidden) {
    if (pass.b_ih) std::copy_n(pass.b_ih, b_ih.size(), b_ih.begin());
    auto& to = Cell::additive ? b_ih : b_hh;
    for (size_t i = 0; pass.b_hh && i < to.size(); ++i) to[i] += pass.b_hh[i];
  }

  int64_t bytes() const { return w_ih.bytes() + w_hh.bytes(); }
  int64_t tiles() const { return w_hh.tiles() + (pass.w_ih ? w_ih.tiles() : 0); }
  void pack(int64_t tile) const {
    if (tile < w_hh.tiles())
      w_hh.pack_tile(tile, pass.w_hh, 1, pass.hidden);
    else
      w_ih.pack_tile(tile - w_hh.tiles(), pass.w_ih, 1, pass.input);
  }
};

// One step of `width` units of one row, in blocks that are `hidden` apart; `keep` null: nothing is kept for backward.
template <class Cell, class T>
void step_row(int64_t width, int64_t hidden, const T* gates, const T* products, T* const* state, T* output, T* keep, bool stream) {
  for_row<T>(width, [=](auto lanes, int64_t unit) {
    Vec<T> x[Cell::inputs], p[Cell::products], prev[Cell::states], next[Cell::states], saved[Cell::saved];
    for (int i = 0; i < Cell::inputs; ++i) x[i] = lanes.load(gates + i * hidden + unit);
    if (!Cell::additive)
      for (int i = 0; i < Cell::products; ++i) p[i] = lanes.load(products + i * hidden + unit);
    for (int i = 0; i < Cell::states; ++i) prev[i] = lanes.load(state[i] + unit);
    Cell::forward(x, p, prev, next, saved);
    for (int i = 0; i < Cell::states; ++i) lanes.store(state[i] + unit, next[i]);
    lanes.store(output + unit, next[0]);
    if (!keep) return;
    const auto write = [&](int block, Vec<T> v) {
      T* to = keep + block * hidden + unit;
      stream ? lanes.stream(to, v) : lanes.store(to, v);
    };
    for (int i = 0; i < Cell::saved; ++i) write(i, saved[i]);
    for (int i = 0; i < Cell::states; ++i) write(kActivations<Cell> + i, prev[i]);
  });
}

template <class Cell, class T>
void forward_slice(const Forward<T>& pass, const ForwardWeights<Cell, T>& weights, Slice slice) {
  const Timeline& timeline = *pass.timeline;
  const int64_t H = pass.hidden, rows = slice.rows(), steps = slice.steps(timeline);
  const int64_t line = Cell::inputs * H, saved_line = kSavedBlocks<Cell> * H;
  // Only whole lines of the cache: one that is half streamed and half stored takes five times as long as either.
  const bool stream = H % kLanes<T> == 0 && pass.streams;
  const Buffer<T> states(Cell::states * rows * H), masked(pass.mask ? rows * H : 0);
  const Buffer<T> gates(std::max(rows, kEntriesTogether) * line), products(Cell::additive ? 0 : rows * Cell::products * H);

  std::vector<const T*> factors(rows);
  std::vector<T*> results(rows);
  for (int64_t r = 0; r < rows; ++r) {
    factors[r] = (pass.mask ? masked : states).get() + r * H;
    results[r] = products.get() + r * Cell::products * H;
    for (int i = 0; i < Cell::states; ++i)
      std::copy_n(pass.initial[i] + timeline.column(slice.first + r) * H, H, states.get() + (i * rows + r) * H);
  }

  std::vector<const T*> inputs;
  std::vector<T*> gate_lines;
  for (int64_t start = 0, stop; start < steps; start = stop) {
    stop = slice.end_of_block(timeline, start, kEntriesTogether);
    inputs.clear(), gate_lines.clear();
    for (int64_t step = start; step < stop; ++step)
      for (int64_t r = 0; r < slice.running(timeline, step); ++r) {
        const int64_t row = slice.first + r, time = timeline.time(step, row, pass.reverse);
        inputs.push_back(pass.x.at(time, timeline.column(row)));
        gate_lines.push_back(gates.get() + int64_t(gate_lines.size()) * line);
      }
    if (pass.w_ih)
      multiply(inputs.data(), gate_lines.data(), int64_t(inputs.size()), weights.w_ih, Start::bias, weights.b_ih.data());
    else
      for (size_t i = 0; i < inputs.size(); ++i)
        for (size_t k = 0; k < weights.b_ih.size(); ++k) gate_lines[i][k] = inputs[i][k] + weights.b_ih[k];

    T* const* lines = gate_lines.data();
    for (int64_t step = start; step < stop; ++step) {
      const int64_t running = slice.running(timeline, step);
      for (int64_t r = 0; pass.mask && r < running; ++r)
        multiply_elements(H, states.get() + r * H, pass.mask + timeline.column(slice.first + r) * H, masked.get() + r * H);
      if (Cell::additive)
        multiply(factors.data(), lines, running, weights.w_hh, Start::out);
      else
        multiply(factors.data(), results.data(), running, weights.w_hh, Start::bias, weights.b_hh.data());
      for (int64_t r = 0; r < running; ++r) {
        const int64_t row = slice.first + r;
        T* state[Cell::states];
        for (int i = 0; i < Cell::states; ++i) state[i] = states.get() + (i * rows + r) * H;
        const int64_t time = timeline.time(step, row, pass.reverse);
        T* keep = pass.saved ? pass.saved + timeline.entry(step, row) * saved_line : nullptr;
        step_row<Cell>(H, H, lines[r], results[r], state, pass.output.at(time, timeline.column(row)), keep, stream);
      }
      lines += running;
    }
  }

  if (stream) end_of_streams();
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t column = timeline.column(slice.first + r);
    for (int i = 0; i < Cell::states; ++i) std::copy_n(states.get() + (i * rows + r) * H, H, pass.final[i] + column * H);
  }
  clear_padding(timeline, slice, pass.output, H);
}

template <class Cell, class T>
void forward(const Layers<Forward<T>>& layers, const Parallel& parallel) {
  std::vector<std::vector<ForwardWeights<Cell, T>>> weights;
  for (const auto& passes : layers) weights.emplace_back(passes.begin(), passes.end());
  pack_all(weights, parallel);
  const std::vector<Job> jobs = slice_passes(layers[0], parallel.threads);
  parallel.run(int64_t(jobs.size()), [&](int64_t i) {
    const int64_t pass = jobs[i].pass;
    for (size_t layer = 0; layer < layers.size(); ++layer)
      forward_slice<Cell>(layers[layer][pass], weights[layer][pass], jobs[i].slice);
  });
}

}  // namespace deep_rnn

// Backward: each slice of the batch walks from its last step to its first, leaving the gradients of the gates; then one
// large product a weight.
#pragma once

#include "pass.h"

namespace deep_rnn {

// What the sweep back leaves behind for the gradients of the weights, one line an entry.
template <class Cell, class T>
struct GateGradients {
  Packed<T> w_ih, w_hh;      // as they are: [inputs * H, I], [products * H, H]
  Buffer<T> inputs;          // [entries, inputs * H]
  Buffer<T> products;        // [entries, products * H], unless additive: the same as inputs
  Buffer<T> masked;          // [entries, H], if there is a mask: h as the recurrent product saw it
  std::vector<const T*> x;   // [entries]: lines of x

  explicit GateGradients(const Backward<T>& pass)
      : w_ih(pass.grad_x.data && pass.w_ih ? Cell::inputs * pass.hidden : 0, pass.input),
        w_hh(Cell::products * pass.hidden, pass.hidden),
        inputs(pass.timeline->entries() * Cell::inputs * pass.hidden),
        products(Cell::additive ? 0 : pass.timeline->entries() * Cell::products * pass.hidden),
        masked(pass.mask ? pass.timeline->entries() * pass.hidden : 0),
        x(pass.timeline->entries()) {
    for (int64_t tile = 0; w_ih.depth() && tile < w_ih.tiles(); ++tile) w_ih.pack_tile(tile, pass.w_ih, pass.input, 1);
    for (int64_t tile = 0; tile < w_hh.tiles(); ++tile) w_hh.pack_tile(tile, pass.w_hh, pass.hidden, 1);
  }

  T* product_line(int64_t entry, int64_t hidden) const {
    return Cell::additive ? inputs.get() + entry * Cell::inputs * hidden : products.get() + entry * Cell::products * hidden;
  }
};

template <class Cell, class T>
void step_row_back(int64_t hidden, const T* saved_line, const T* grad_output, T* const* carry, T* grad_inputs, T* grad_products) {
  for (int64_t unit = 0; unit < hidden; unit += kLanes<T>) {
    const Lanes<T> lanes(hidden - unit);
    Vec<T> saved[Cell::saved], prev[Cell::states], dnext[Cell::states], dx[Cell::inputs], dp[Cell::products], dprev[Cell::states];
    for (int i = 0; i < Cell::saved; ++i) saved[i] = lanes.load(saved_line + i * hidden + unit);
    for (int i = 0; i < Cell::states; ++i) prev[i] = lanes.load(saved_line + (kActivations<Cell> + i) * hidden + unit);
    for (int i = 0; i < Cell::states; ++i) dnext[i] = lanes.load(carry[i] + unit);
    if (grad_output) dnext[0] += lanes.load(grad_output + unit);
    Cell::backward(saved, prev, dnext, dx, dp, dprev);
    for (int i = 0; i < Cell::inputs; ++i) lanes.store(grad_inputs + i * hidden + unit, dx[i]);
    if (!Cell::additive)
      for (int i = 0; i < Cell::products; ++i) lanes.store(grad_products + i * hidden + unit, dp[i]);
    for (int i = 0; i < Cell::states; ++i) lanes.store(carry[i] + unit, dprev[i]);
  }
}

template <class Cell, class T>
void backward_slice(const Backward<T>& pass, GateGradients<Cell, T>& gradients, Slice slice) {
  const Timeline& timeline = *pass.timeline;
  const int64_t H = pass.hidden, rows = slice.rows(), steps = slice.steps(timeline), together = steps_together(rows);
  const int64_t line = kSavedBlocks<Cell> * H;
  const Buffer<T> carries(Cell::states * rows * H), masked(pass.mask ? rows * H : 0);

  std::vector<T*> results(rows);  // where the recurrent product's gradient goes: to the carried gradient of h, or through the mask
  for (int64_t r = 0; r < rows; ++r) {
    results[r] = (pass.mask ? masked : carries).get() + r * H;
    for (int i = 0; i < Cell::states; ++i) {
      T* to = carries.get() + (i * rows + r) * H;
      if (pass.grad_final[i])
        std::copy_n(pass.grad_final[i] + timeline.column(slice.first + r) * H, H, to);
      else
        std::fill_n(to, H, T(0));
    }
  }

  std::vector<const T*> product_lines(rows), input_lines;
  std::vector<T*> grad_x_lines;
  for (int64_t stop = steps; stop > 0; stop = std::max<int64_t>(0, stop - together)) {
    input_lines.clear(), grad_x_lines.clear();
    for (int64_t step = stop - 1; step >= std::max<int64_t>(0, stop - together); --step) {
      const int64_t running = slice.running(timeline, step);
      for (int64_t r = 0; r < running; ++r) {
        const int64_t row = slice.first + r, column = timeline.column(row), time = timeline.time(step, row, pass.reverse);
        const int64_t entry = timeline.entry(time, row);
        T* carry[Cell::states];
        for (int i = 0; i < Cell::states; ++i) carry[i] = carries.get() + (i * rows + r) * H;
        T* inputs = gradients.inputs.get() + entry * Cell::inputs * H;
        T* products = gradients.product_line(entry, H);
        const T* saved = pass.saved + entry * line;
        step_row_back<Cell>(H, saved, pass.grad_output.data ? pass.grad_output.at(time, column) : nullptr, carry, inputs, products);
        product_lines[r] = products;
        gradients.x[entry] = pass.x.at(time, column);
        input_lines.push_back(inputs);
        if (pass.grad_x.data) grad_x_lines.push_back(pass.grad_x.at(time, column));
        if (pass.mask) {
          const T* h = saved + kActivations<Cell> * H;
          multiply_elements(H, h, pass.mask + column * H, gradients.masked.get() + entry * H);
        }
      }
      multiply(product_lines.data(), results.data(), running, gradients.w_hh, pass.mask ? Start::zero : Start::out);
      for (int64_t r = 0; pass.mask && r < running; ++r) {
        const T* mask = pass.mask + timeline.column(slice.first + r) * H;
        for (int64_t i = 0; i < H; ++i) carries.get()[r * H + i] += mask[i] * results[r][i];
      }
    }
    if (pass.grad_x.data && pass.w_ih)
      multiply(input_lines.data(), grad_x_lines.data(), int64_t(input_lines.size()), gradients.w_ih, Start::zero);
    else
      for (size_t i = 0; i < grad_x_lines.size(); ++i) std::copy_n(input_lines[i], Cell::inputs * H, grad_x_lines[i]);
  }

  for (int64_t r = 0; r < rows; ++r) {
    const int64_t row = slice.first + r, column = timeline.column(row);
    for (int i = 0; i < Cell::states; ++i)
      if (pass.grad_initial[i]) std::copy_n(carries.get() + (i * rows + r) * H, H, pass.grad_initial[i] + column * H);
    for (int64_t t = timeline.length(row); pass.grad_x.data && t < timeline.steps(); ++t)
      std::fill_n(pass.grad_x.at(t, column), pass.w_ih ? pass.input : Cell::inputs * H, T(0));
  }
}

// Part `part` of `parts` of a weight's gradient.
template <class Cell, class T>
void weight_gradients(const Backward<T>& pass, const GateGradients<Cell, T>& gradients, int64_t part, int64_t parts) {
  const int64_t H = pass.hidden, entries = pass.timeline->entries();
  const auto border = [&](int64_t lines, int64_t i) {
    return i == parts ? lines : lines * i / parts / kTileRows * kTileRows;
  };
  if (pass.grad_w_ih) {
    const int64_t lines = Cell::inputs * H;
    outer_sum(
        entries, [&](int64_t k) { return gradients.inputs.get() + k * lines; }, [&](int64_t k) { return gradients.x[k]; },
        border(lines, part), border(lines, part + 1), pass.input, pass.grad_w_ih, pass.grad_b_ih);
  }
  if (pass.grad_w_hh) {
    const int64_t lines = Cell::products * H, saved = kSavedBlocks<Cell> * H;
    const T* h = pass.mask ? gradients.masked.get() : pass.saved + kActivations<Cell> * H;
    outer_sum(
        entries, [&](int64_t k) { return gradients.product_line(k, H); }, [&](int64_t k) { return h + k * (pass.mask ? H : saved); },
        border(lines, part), border(lines, part + 1), H, pass.grad_w_hh, pass.grad_b_hh);
  }
}

template <class Cell, class T>
void backward(const std::vector<Backward<T>>& passes, const Parallel& parallel) {
  std::vector<GateGradients<Cell, T>> gradients;
  for (const auto& pass : passes) gradients.emplace_back(pass);
  const std::vector<Job> jobs = slice_passes(passes, parallel.threads);
  parallel.run(int64_t(jobs.size()), [&](int64_t i) {
    backward_slice<Cell>(passes[jobs[i].pass], gradients[jobs[i].pass], jobs[i].slice);
  });
  const int64_t parts = (parallel.threads + int64_t(passes.size()) - 1) / int64_t(passes.size());
  parallel.run(parts * int64_t(passes.size()), [&](int64_t i) {
    weight_gradients<Cell>(passes[i / parts], gradients[i / parts], i % parts, parts);
  });
}

}  // namespace deep_rnn

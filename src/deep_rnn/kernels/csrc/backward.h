// Backward: each slice of the batch walks from its last step to its first, leaving the gradients of the gates; then one
// large product a weight.
#pragma once

#include "pass.h"

namespace deep_rnn {

// A pass's weights as the sweep back reads them.
template <class Cell, class T>
struct BackwardWeights {
  const Pass<T>& pass;
  Packed<T> w_ih, w_hh;  // as they are: [inputs * H, I], [products * H, H]

  explicit BackwardWeights(const Backward<T>& pass)
      : pass(pass),
        w_ih(pass.grad_x.data && pass.w_ih ? Cell::inputs * pass.hidden : 0, pass.input),
        w_hh(Cell::products * pass.hidden, pass.hidden) {}

  int64_t bytes() const { return w_ih.bytes() + w_hh.bytes(); }
  int64_t tiles() const { return w_hh.tiles() + (w_ih.depth() ? w_ih.tiles() : 0); }
  void pack(int64_t tile) const {
    if (tile < w_hh.tiles())
      w_hh.pack_tile(tile, pass.w_hh, pass.hidden, 1);
    else
      w_ih.pack_tile(tile - w_hh.tiles(), pass.w_ih, pass.input, 1);
  }
};

// What the sweep back leaves behind for the gradients of the weights, one line an entry: of the whole pass or of some steps.
template <class Cell, class T>
struct GateGradients {
  int64_t hidden;
  Buffer<T> inputs;              // [entries, inputs * H]
  Buffer<T> products;            // [entries, products * H], unless additive: the same as inputs
  Buffer<T> masked;              // [entries, H], if there is a mask: h as the recurrent product saw it
  std::vector<const T*> x, h;    // [entries]: lines of x, and of h before the step

  GateGradients(const Backward<T>& pass, int64_t entries)
      : hidden(pass.hidden),
        inputs(entries * input_stride()),
        products(Cell::additive ? 0 : entries * product_stride()),
        masked(pass.mask ? entries * hidden : 0),
        x(entries),
        h(entries) {}

  T* input_line(int64_t entry) const { return inputs.get() + entry * input_stride(); }
  T* product_line(int64_t entry) const { return (Cell::additive ? inputs : products).get() + entry * product_stride(); }
  Lines<const T> input_lines() const { return {input_line(0), input_stride()}; }
  Lines<const T> product_lines() const { return {product_line(0), product_stride()}; }

 private:
  int64_t input_stride() const { return column_stride<T>(Cell::inputs * hidden); }
  int64_t product_stride() const { return column_stride<T>(Cell::products * hidden); }
};

// Whether both weights of a pass have the same gate gradients, which are then gathered once for both.
template <class Cell, class T>
bool shares_gates(const Backward<T>& pass) {
  return Cell::additive && pass.grad_w_ih && pass.grad_w_hh;
}

// The gradients of a pass's weights, found by one job: all jobs' are added up at the end.
template <class Cell, class T>
struct WeightGradients {
  int64_t inputs, products;  // lines of w_ih and of w_hh
  bool shared;
  std::vector<T> w_ih, w_hh, b_ih, b_hh;

  explicit WeightGradients(const Backward<T>& pass)
      : inputs(Cell::inputs * pass.hidden), products(Cell::products * pass.hidden), shared(shares_gates<Cell>(pass)),
        w_ih(pass.grad_w_ih ? inputs * pass.input : 0), w_hh(pass.grad_w_hh ? products * pass.hidden : 0),
        b_ih(w_ih.empty() ? 0 : inputs), b_hh(w_hh.empty() ? 0 : products) {}

  // Adds the product of `count` lines of gate gradients with the lines of x and h.
  void add(int64_t count, const Backward<T>& pass, const GateGradients<Cell, T>& gates) {
    const OuterSum to_ih{[&](int64_t k) { return gates.x[k]; }, pass.input, w_ih.data()};
    const OuterSum to_hh{[&](int64_t k) { return gates.h[k]; }, pass.hidden, w_hh.data()};
    if (shared) return add_outer_sums(count, gates.input_lines(), 0, inputs, b_ih.data(), to_ih, to_hh);
    if (pass.grad_w_ih) add_outer_sums(count, gates.input_lines(), 0, inputs, b_ih.data(), to_ih);
    if (pass.grad_w_hh) add_outer_sums(count, gates.product_lines(), 0, products, b_hh.data(), to_hh);
  }
};

// The gradients of all layers' weights, found job by job.
template <class Cell, class T>
class Found {
 public:
  template <class JobType>
  Found(const Layers<Backward<T>>& layers, const std::vector<JobType>& jobs) : layers_(layers) {
    for (const JobType& job : jobs) pass_of_.push_back(job.pass);
    for (const auto& passes : layers) {
      parts_.emplace_back();
      for (int64_t pass : pass_of_) parts_.back().emplace_back(passes[pass]);
    }
  }

  WeightGradients<Cell, T>& at(int64_t layer, int64_t job) { return parts_[layer][job]; }

  // Writes the sum over the jobs of each pass.
  void add_up() const {
    for (size_t layer = 0; layer < layers_.size(); ++layer) {
      for (const auto& pass : layers_[layer]) clear(pass);
      for (size_t job = 0; job < pass_of_.size(); ++job) {
        const Backward<T>& pass = layers_[layer][pass_of_[job]];
        const WeightGradients<Cell, T>& part = parts_[layer][job];
        add(part.w_ih, pass.grad_w_ih), add(part.w_hh, pass.grad_w_hh);
        add(part.b_ih, pass.grad_b_ih), add(part.shared ? part.b_ih : part.b_hh, pass.grad_b_hh);
      }
    }
  }

 private:
  static void clear(const Backward<T>& pass) {
    const int64_t H = pass.hidden;
    if (pass.grad_w_ih) std::fill_n(pass.grad_w_ih, Cell::inputs * H * pass.input, T(0));
    if (pass.grad_w_hh) std::fill_n(pass.grad_w_hh, Cell::products * H * H, T(0));
    if (pass.grad_b_ih) std::fill_n(pass.grad_b_ih, Cell::inputs * H, T(0));
    if (pass.grad_b_hh) std::fill_n(pass.grad_b_hh, Cell::products * H, T(0));
  }
  static void add(const std::vector<T>& from, T* to) {
    for (size_t k = 0; to && k < from.size(); ++k) to[k] += from[k];
  }

  const Layers<Backward<T>>& layers_;
  std::vector<int64_t> pass_of_;
  std::vector<std::vector<WeightGradients<Cell, T>>> parts_;
};

// Whether the gradients of the weights are added up while the sweep goes on: as long as they fit a thread's cache beside all
// else, that saves writing the gate gradients of all steps to memory and reading them back.
template <class Cell, class T>
bool adds_while_sweeping(const Backward<T>& pass) {
  constexpr size_t kMostBytes = 3 << 17;
  return sizeof(T) * pass.hidden * (Cell::inputs * pass.input + Cell::products * pass.hidden) <= kMostBytes;
}

template <class Cell, class T>
void step_row_back(int64_t width, int64_t hidden, const T* saved_line, const T* grad_output, T* const* carry, T* grad_inputs,
                   T* grad_products) {
  for_row<T>(width, [=](auto lanes, int64_t unit) {
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
  });
}

// `sums` null: `gradients` holds all entries of the pass, by their number; else only those of the steps at hand. Leaves the walk
// with the entries of some steps, `together` or one step's, for the products that do not wait for each other.
template <class Cell, class T>
void backward_slice(const Backward<T>& pass, const BackwardWeights<Cell, T>& weights, GateGradients<Cell, T>& gradients,
                    WeightGradients<Cell, T>* sums, Slice slice, int64_t together) {
  const Timeline& timeline = *pass.timeline;
  const int64_t H = pass.hidden, rows = slice.rows(), steps = slice.steps(timeline);
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
  for (int64_t stop = steps, start; stop > 0; stop = start) {
    start = slice.start_of_block(timeline, stop, together);
    input_lines.clear(), grad_x_lines.clear();
    for (int64_t step = stop - 1; step >= start; --step) {
      const int64_t running = slice.running(timeline, step);
      for (int64_t r = 0; r < running; ++r) {
        const int64_t row = slice.first + r, column = timeline.column(row), time = timeline.time(step, row, pass.reverse);
        const int64_t entry = timeline.entry(step, row), line = sums ? int64_t(input_lines.size()) : entry;
        const T *saved = pass.saved + entry * kSavedBlocks<Cell> * H, *h = saved + kActivations<Cell> * H;
        T* carry[Cell::states];
        for (int i = 0; i < Cell::states; ++i) carry[i] = carries.get() + (i * rows + r) * H;
        product_lines[r] = gradients.product_line(line);
        step_row_back<Cell>(H, H, saved, pass.grad_output.data ? pass.grad_output.at(time, column) : nullptr, carry,
                            gradients.input_line(line), gradients.product_line(line));
        input_lines.push_back(gradients.input_line(line));
        if (pass.grad_x.data) grad_x_lines.push_back(pass.grad_x.at(time, column));
        gradients.x[line] = pass.x.at(time, column);
        gradients.h[line] = pass.mask ? gradients.masked.get() + line * H : h;
        if (pass.mask) multiply_elements(H, h, pass.mask + column * H, gradients.masked.get() + line * H);
      }
      const Ahead<T> ahead = step > 0 ? saved_lines(pass, slice, step - 1, kSavedBlocks<Cell> * H) : Ahead<T>{};
      const T* const no_bias = nullptr;
      multiply(product_lines.data(), results.data(), running, weights.w_hh, pass.mask ? Start::zero : Start::out, no_bias, ahead);
      for (int64_t r = 0; pass.mask && r < running; ++r) {
        const T* mask = pass.mask + timeline.column(slice.first + r) * H;
        for (int64_t i = 0; i < H; ++i) carries.get()[r * H + i] += mask[i] * results[r][i];
      }
    }
    if (pass.grad_x.data && pass.w_ih)
      multiply(input_lines.data(), grad_x_lines.data(), int64_t(input_lines.size()), weights.w_ih, Start::zero);
    else
      for (size_t i = 0; i < grad_x_lines.size(); ++i) std::copy_n(input_lines[i], Cell::inputs * H, grad_x_lines[i]);
    if (sums) sums->add(int64_t(input_lines.size()), pass, gradients);
  }

  for (int64_t r = 0; r < rows; ++r) {
    const int64_t column = timeline.column(slice.first + r);
    for (int i = 0; i < Cell::states; ++i)
      if (pass.grad_initial[i]) std::copy_n(carries.get() + (i * rows + r) * H, H, pass.grad_initial[i] + column * H);
  }
  if (pass.grad_x.data) clear_padding(timeline, slice, pass.grad_x, pass.w_ih ? pass.input : Cell::inputs * H);
}

// Part `part` of `parts` of the weights' gradients.
template <class Cell, class T>
void weight_gradients(const Backward<T>& pass, const GateGradients<Cell, T>& gradients, int64_t part, int64_t parts) {
  const int64_t H = pass.hidden, entries = pass.timeline->entries();
  const OuterSum to_ih{[&](int64_t k) { return gradients.x[k]; }, pass.input, pass.grad_w_ih};
  const OuterSum to_hh{[&](int64_t k) { return gradients.h[k]; }, H, pass.grad_w_hh};
  const int64_t inputs = Cell::inputs * H, products = Cell::products * H;
  if (shares_gates<Cell>(pass)) {
    T* bias = pass.grad_b_ih ? pass.grad_b_ih : pass.grad_b_hh;
    const int64_t first = border(part, parts, inputs), last = border(part + 1, parts, inputs);
    outer_sums(entries, gradients.input_lines(), first, last, bias, to_ih, to_hh);
    if (pass.grad_b_ih && pass.grad_b_hh) std::copy(bias + first, bias + last, pass.grad_b_hh + first);
    return;
  }
  if (pass.grad_w_ih) outer_sums(entries, gradients.input_lines(), border(part, parts, inputs), border(part + 1, parts, inputs), pass.grad_b_ih, to_ih);
  if (pass.grad_w_hh) outer_sums(entries, gradients.product_lines(), border(part, parts, products), border(part + 1, parts, products), pass.grad_b_hh, to_hh);
}

// One layer whose weights' gradients are found behind the sweep.
template <class Cell, class T>
void backward_then_products(const std::vector<Backward<T>>& passes, const Parallel& parallel) {
  std::vector<std::vector<BackwardWeights<Cell, T>>> layer;
  layer.emplace_back(passes.begin(), passes.end());
  pack_all(layer, parallel);
  const auto& weights = layer[0];
  std::vector<GateGradients<Cell, T>> gradients;
  for (const auto& pass : passes) gradients.emplace_back(pass, pass.timeline->entries());
  const std::vector<Job> jobs = slice_passes(passes, parallel.threads);
  parallel.run(int64_t(jobs.size()), [&](int64_t i) {
    const int64_t pass = jobs[i].pass;
    backward_slice<Cell>(passes[pass], weights[pass], gradients[pass], static_cast<WeightGradients<Cell, T>*>(nullptr), jobs[i].slice, kEntriesTogether);
  });
  const int64_t parts = (parallel.threads + int64_t(passes.size()) - 1) / int64_t(passes.size());
  parallel.run(parts * int64_t(passes.size()), [&](int64_t i) {
    weight_gradients<Cell>(passes[i / parts], gradients[i / parts], i % parts, parts);
  });
}

template <class Cell, class T>
void backward(const Layers<Backward<T>>& layers, const Parallel& parallel) {
  const auto adds = [](const std::vector<Backward<T>>& passes) { return adds_while_sweeping<Cell>(passes[0]); };
  if (!std::all_of(layers.begin(), layers.end(), adds)) {
    for (auto passes = layers.rbegin(); passes != layers.rend(); ++passes) backward_then_products<Cell>(*passes, parallel);
    return;
  }
  std::vector<std::vector<BackwardWeights<Cell, T>>> weights;
  for (const auto& passes : layers) weights.emplace_back(passes.begin(), passes.end());
  pack_all(weights, parallel);
  const std::vector<Job> jobs = slice_passes(layers[0], parallel.threads);
  Found<Cell, T> found(layers, jobs);
  parallel.run(int64_t(jobs.size()), [&](int64_t i) {
    const int64_t pass = jobs[i].pass, together = 2 * kEntriesTogether;
    for (int64_t layer = int64_t(layers.size()) - 1; layer >= 0; --layer) {
      GateGradients<Cell, T> gradients(layers[layer][pass], std::max(jobs[i].slice.rows(), together));
      backward_slice<Cell>(layers[layer][pass], weights[layer][pass], gradients, &found.at(layer, i), jobs[i].slice, together);
    }
  });
  found.add_up();
}

}  // namespace deep_rnn

// Layers of few units over batches of many rows: a vector register holds one unit of kLanes rows, where the other driver
// (forward.h, backward.h) holds kLanes units of one row and would leave most lanes empty.
//
// Rows are taken in groups of kLanes, the same whatever the number of threads. What a group saves for backward lies behind
// what the groups before it saved: step by step [saved_blocks * H][rows that run in this step].
#pragma once

#include "backward.h"
#include "transpose.h"

namespace deep_rnn {

constexpr int64_t kWidestNarrow = 32;

// By the number of vectors that a step works on. The answer holds for forward and backward: they share the saved layout.
template <class T>
bool is_narrow(const Pass<T>& pass) {
  const int64_t batch = pass.timeline->batch(), hidden = pass.hidden;
  return pass.w_ih && hidden <= kWidestNarrow && hidden * whole_vectors<T>(batch) < batch * whole_vectors<T>(hidden);
}

// out[r] = start + the sum over k of weights[r][k] times tile[k], a line of Vectors vectors; lines of out are `stride` apart.
template <int Vectors, class T>
void multiply_lanes(const T* weights, int64_t count, int64_t depth, const T* tile, Start start, T* out, int64_t stride) {
  const int64_t blocks = (count + kTileRows - 1) / kTileRows;
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t first = count * b / blocks, last = count * (b + 1) / blocks;
    with_constant<kTileRows>(last - first, [&](auto n) {
      const T* rows[n];
      T* lines[n];
      for (int r = 0; r < n; ++r) rows[r] = weights + (first + r) * depth, lines[r] = out + (first + r) * stride;
      multiply_tile<n, Vectors>(RowFactors<T>{rows, 0}, tile, depth, start, static_cast<const T*>(nullptr), lines, 0, Vectors * kLanes<T>);
    });
  }
}

template <class T>
std::vector<T> sum_of_biases(const T* one, const T* other, int64_t size) {
  std::vector<T> sum(size);
  for (int64_t i = 0; i < size; ++i) sum[i] = (one ? one[i] : T(0)) + (other ? other[i] : T(0));
  return sum;
}

// A matrix [lines, width], turned.
template <class T>
std::vector<T> turned(const T* matrix, int64_t lines, int64_t width) {
  std::vector<T> out(lines * width);
  for (int64_t i = 0; i < lines; ++i)
    for (int64_t j = 0; j < width; ++j) out[j * lines + i] = matrix[i * width + j];
  return out;
}

// What both sweeps know of a group: where its rows lie.
template <class T>
struct NarrowGroup {
  static constexpr int L = kLanes<T>;
  const Pass<T>& pass;
  const Timeline& timeline;
  Slice slice;
  int64_t rows, steps;
  Buffer<T> mask;  // [H][L], if there is one

  NarrowGroup(const Pass<T>& pass, Slice slice)
      : pass(pass), timeline(*pass.timeline), slice(slice), rows(slice.rows()), steps(slice.steps(timeline)),
        mask(pass.mask ? pass.hidden * L : 0) {
    if (pass.mask) read_rows(pass.mask, mask.get());
  }

  int64_t column(int64_t row) const { return timeline.column(slice.first + row); }
  int64_t time(int64_t step, int64_t row) const { return timeline.time(step, slice.first + row, pass.reverse); }
  int64_t running(int64_t step) const { return slice.running(timeline, step); }

  // Addresses of the running rows' lines of a sequence in one step.
  template <class E>
  void lines_of(const Sequence<E>& sequence, int64_t step, E** lines) const {
    for (int64_t r = 0; r < running(step); ++r) lines[r] = sequence.at(time(step, r), column(r));
  }
  // The group's rows of [B, H] as lanes, and back.
  void read_rows(const T* from, T* lanes) const {
    const T* lines[L];
    for (int64_t r = 0; r < rows; ++r) lines[r] = from + column(r) * pass.hidden;
    to_lanes(lines, rows, pass.hidden, lanes, L);
  }
  void write_rows(const T* lanes, T* to) const {
    T* lines[L];
    for (int64_t r = 0; r < rows; ++r) lines[r] = to + column(r) * pass.hidden;
    from_lanes(lanes, rows, pass.hidden, lines);
  }
  void multiply_mask(const T* lanes, T* out) const { multiply_elements(pass.hidden * L, lanes, mask.get(), out); }
};

// One step: gates [inputs * H] and products [products * H] of vectors, the former `stride` apart.
template <class Cell, class T>
void narrow_step(int64_t hidden, const T* gates, int64_t stride, const T* products, const T* b_ih, const T* b_hh, T* state,
                 int64_t running, T* saved) {
  constexpr int L = kLanes<T>;
  const Lanes<T> lanes(running);
  for (int64_t unit = 0; unit < hidden; ++unit) {
    Vec<T> x[Cell::inputs], p[Cell::products], prev[Cell::states], next[Cell::states], keep[Cell::saved];
    for (int i = 0; i < Cell::inputs; ++i) x[i] = load(gates + (i * hidden + unit) * stride) + b_ih[i * hidden + unit];
    if (!Cell::additive)
      for (int i = 0; i < Cell::products; ++i) p[i] = load(products + (i * hidden + unit) * L) + b_hh[i * hidden + unit];
    for (int i = 0; i < Cell::states; ++i) prev[i] = load(state + (i * hidden + unit) * L);
    Cell::forward(x, p, prev, next, keep);
    for (int i = 0; i < Cell::states; ++i) lanes.store(state + (i * hidden + unit) * L, next[i]);
    if (!saved) continue;
    for (int i = 0; i < Cell::saved; ++i) lanes.store(saved + (i * hidden + unit) * running, keep[i]);
    for (int i = 0; i < Cell::states; ++i)
      lanes.store(saved + ((kActivations<Cell> + i) * hidden + unit) * running, prev[i]);
  }
}

template <class Cell, class T>
void narrow_forward(const Forward<T>& pass, Slice slice, T* saved) {
  constexpr int L = kLanes<T>;
  const NarrowGroup<T> group(pass, slice);
  const int64_t H = pass.hidden, I = pass.input, stride = kTileVectors * L;
  const Buffer<T> states(Cell::states * H * L), masked(pass.mask ? H * L : 0), x(I * stride), gates(Cell::inputs * H * stride);
  const Buffer<T> products(Cell::additive ? 0 : Cell::products * H * L);
  const auto b_ih = sum_of_biases(pass.b_ih, Cell::additive ? pass.b_hh : nullptr, Cell::inputs * H);
  const auto b_hh = sum_of_biases<T>(nullptr, pass.b_hh, Cell::products * H);
  for (int i = 0; i < Cell::states; ++i) group.read_rows(pass.initial[i], states.get() + i * H * L);

  for (int64_t start = 0; start < group.steps; start += kTileVectors)
    with_constant<kTileVectors>(group.steps - start, [&](auto together) {
      constexpr int64_t width = together * L;
      const T* lines[L];
      for (int64_t i = 0; i < together; ++i) {
        group.lines_of(pass.x, start + i, lines);
        to_lanes(lines, group.running(start + i), I, x.get() + i * L, width);
      }
      multiply_lanes<together>(pass.w_ih, Cell::inputs * H, I, x.get(), Start::zero, gates.get(), width);
      for (int64_t i = 0; i < together; ++i) {
        const int64_t running = group.running(start + i);
        if (pass.mask) group.multiply_mask(states.get(), masked.get());
        const T* h = (pass.mask ? masked : states).get();
        if (Cell::additive)
          multiply_lanes<1>(pass.w_hh, Cell::products * H, H, h, Start::out, gates.get() + i * L, width);
        else
          multiply_lanes<1>(pass.w_hh, Cell::products * H, H, h, Start::zero, products.get(), L);
        narrow_step<Cell>(H, gates.get() + i * L, width, products.get(), b_ih.data(), b_hh.data(), states.get(), running, saved);
        if (saved) saved += kSavedBlocks<Cell> * H * running;
        T* outputs[L];
        group.lines_of(pass.output, start + i, outputs);
        from_lanes(states.get(), running, H, outputs);
      }
    });

  for (int i = 0; i < Cell::states; ++i) group.write_rows(states.get() + i * H * L, pass.final[i]);
  clear_padding(group.timeline, slice, pass.output, H);
}

// A run of groups of one pass: what one thread does.
struct NarrowJob {
  int64_t pass, first_group, last_group;
};

template <class T, class PassType>
std::vector<NarrowJob> narrow_jobs(const std::vector<PassType>& passes, int threads) {
  const int64_t a_thread_each = (threads + int64_t(passes.size()) - 1) / int64_t(passes.size());
  std::vector<NarrowJob> jobs;
  for (size_t i = 0; i < passes.size(); ++i) {
    const int64_t groups = whole_vectors<T>(passes[i].timeline->batch()), count = std::min(groups, a_thread_each);
    for (int64_t j = 0; j < count; ++j) jobs.push_back({int64_t(i), groups * j / count, groups * (j + 1) / count});
  }
  return jobs;
}

// Calls f with each group of a job and the place of its first entry among all groups' entries.
template <class T, class F>
void for_each_group(const Timeline& timeline, const NarrowJob& job, F f) {
  int64_t entries = 0;
  for (int64_t row = 0; row < job.first_group * kLanes<T>; ++row) entries += timeline.length(row);
  for (int64_t i = job.first_group; i < job.last_group; ++i) {
    const Slice slice{i * kLanes<T>, std::min<int64_t>((i + 1) * kLanes<T>, timeline.batch())};
    f(slice, entries);
    for (int64_t row = slice.first; row < slice.last; ++row) entries += timeline.length(row);
  }
}

template <class Cell, class T>
void forward_narrow(const Layers<Forward<T>>& layers, const Parallel& parallel) {
  const auto jobs = narrow_jobs<T>(layers[0], parallel.threads);
  parallel.run(int64_t(jobs.size()), [&](int64_t i) {
    for_each_group<T>(*layers[0][jobs[i].pass].timeline, jobs[i], [&](Slice slice, int64_t entry) {
      for (const auto& passes : layers) {
        const Forward<T>& pass = passes[jobs[i].pass];
        narrow_forward<Cell>(pass, slice, pass.saved ? pass.saved + entry * kSavedBlocks<Cell> * pass.hidden : nullptr);
      }
    });
  });
}

// One step back: the gradients of gate inputs and products, vectors [inputs * H] and [products * H]; rows that do not run
// in this step have none, and keep what they carry.
template <class Cell, class T>
void narrow_step_back(int64_t hidden, const T* saved, const T* grad_output, int64_t running, T* carry, T* grad_inputs, T* grad_products) {
  constexpr int L = kLanes<T>;
  const Lanes<T> lanes(running);
  for (int64_t unit = 0; unit < hidden; ++unit) {
    Vec<T> keep[Cell::saved], prev[Cell::states], dnext[Cell::states], dx[Cell::inputs], dp[Cell::products], dprev[Cell::states];
    for (int i = 0; i < Cell::saved; ++i) keep[i] = lanes.load(saved + (i * hidden + unit) * running);
    for (int i = 0; i < Cell::states; ++i) prev[i] = lanes.load(saved + ((kActivations<Cell> + i) * hidden + unit) * running);
    for (int i = 0; i < Cell::states; ++i) dnext[i] = lanes.load(carry + (i * hidden + unit) * L);
    if (grad_output) dnext[0] += load(grad_output + unit * L);
    Cell::backward(keep, prev, dnext, dx, dp, dprev);
    for (int i = 0; i < Cell::inputs; ++i) store(grad_inputs + (i * hidden + unit) * L, dx[i]);
    if (!Cell::additive)
      for (int i = 0; i < Cell::products; ++i) store(grad_products + (i * hidden + unit) * L, dp[i]);
    for (int i = 0; i < Cell::states; ++i) lanes.store(carry + (i * hidden + unit) * L, dprev[i]);
  }
}

// The gradient of a weight [lines, width], kept apart for each lane until the sweep is over: adding across lanes at every
// step would cost more than the products.
template <class T>
class LaneSums {
 public:
  static constexpr int L = kLanes<T>, kRows = kVectorRegisters >= 32 ? 4 : 2, kColumns = kVectorRegisters >= 32 ? 6 : 4;

  LaneSums(int64_t lines, int64_t width) : lines_(lines), width_(width), sums_(lines * width * L), bias_(lines * L) {
    std::fill_n(sums_.get(), lines * width * L, T(0));
    std::fill_n(bias_.get(), lines * L, T(0));
  }

  // Adds a[step][line] * b[step][column] of some steps, vectors all of them.
  void add(int64_t steps, const T* a, const T* b) {
    for (int64_t line = 0; line < lines_; line += kRows)
      with_constant<kRows>(lines_ - line, [&](auto rows) {
        add_bias<rows>(steps, a + line * L, line);
        for (int64_t column = 0; column < width_; column += kColumns)
          with_constant<kColumns>(width_ - column, [&](auto columns) {
            add_tile<rows, columns>(steps, a + line * L, b + column * L, sums_.get() + (line * width_ + column) * L);
          });
      });
  }

  void add_to(T* weight, T* bias) const {
    for (int64_t i = 0; i < lines_ * width_; ++i) weight[i] += across(sums_.get() + i * L);
    for (int64_t i = 0; i < lines_; ++i) bias[i] += across(bias_.get() + i * L);
  }

 private:
  template <int Rows>
  void add_bias(int64_t steps, const T* a, int64_t line) {
    Vec<T> sum[Rows];
    for (int r = 0; r < Rows; ++r) sum[r] = load(bias_.get() + (line + r) * L);
    for (int64_t k = 0; k < steps; ++k)
      for (int r = 0; r < Rows; ++r) sum[r] += load(a + (k * lines_ + r) * L);
    for (int r = 0; r < Rows; ++r) store(bias_.get() + (line + r) * L, sum[r]);
  }

  template <int Rows, int Columns>
  void add_tile(int64_t steps, const T* a, const T* b, T* to) const {
    Vec<T> sum[Rows][Columns];
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 6
      for (int c = 0; c < Columns; ++c) sum[r][c] = load(to + (r * width_ + c) * L);
    for (int64_t k = 0; k < steps; ++k) {
      Vec<T> right[Columns];
#pragma GCC unroll 6
      for (int c = 0; c < Columns; ++c) right[c] = load(b + (k * width_ + c) * L);
#pragma GCC unroll 4
      for (int r = 0; r < Rows; ++r) {
        const Vec<T> left = load(a + (k * lines_ + r) * L);
#pragma GCC unroll 6
        for (int c = 0; c < Columns; ++c) sum[r][c] += left * right[c];
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 6
      for (int c = 0; c < Columns; ++c) store(to + (r * width_ + c) * L, sum[r][c]);
  }

  static T across(const T* from) {
    T sum = 0;
    for (int i = 0; i < L; ++i) sum += from[i];
    return sum;
  }

  int64_t lines_, width_;
  Buffer<T> sums_, bias_;
};

// A pass's weights as the sweep back reads them, both turned, and their gradients lane by lane.
template <class Cell, class T>
struct NarrowWeights {
  std::vector<T> w_ih, w_hh;
  LaneSums<T> grad_ih, grad_hh;

  explicit NarrowWeights(const Backward<T>& pass)
      : w_ih(pass.grad_x.data ? turned(pass.w_ih, Cell::inputs * pass.hidden, pass.input) : std::vector<T>()),
        w_hh(turned(pass.w_hh, Cell::products * pass.hidden, pass.hidden)),
        grad_ih(pass.grad_w_ih ? Cell::inputs * pass.hidden : 0, pass.input),
        grad_hh(pass.grad_w_hh ? Cell::products * pass.hidden : 0, pass.hidden) {}
};

template <class Cell, class T>
void narrow_backward(const Backward<T>& pass, Slice slice, const T* saved, NarrowWeights<Cell, T>& weights) {
  constexpr int L = kLanes<T>;
  constexpr int64_t together = 8;  // steps whose gate gradients are kept before they meet x and h
  const NarrowGroup<T> group(pass, slice);
  const int64_t H = pass.hidden, I = pass.input, inputs = Cell::inputs * H, products = Cell::products * H;
  const Buffer<T> carry(Cell::states * H * L), masked(pass.mask ? H * L : 0), grad_output(pass.grad_output.data ? H * L : 0);
  const Buffer<T> dx(together * inputs * L), dp(Cell::additive ? 0 : together * products * L), x(together * I * L), h(together * H * L);
  const Buffer<T> grad_x(pass.grad_x.data ? I * L : 0);
  for (int i = 0; i < Cell::states; ++i) {
    if (pass.grad_final[i])
      group.read_rows(pass.grad_final[i], carry.get() + i * H * L);
    else
      std::fill_n(carry.get() + i * H * L, H * L, T(0));
  }
  for (int64_t step = 0; step < group.steps; ++step) saved += kSavedBlocks<Cell> * H * group.running(step);

  for (int64_t stop = group.steps; stop > 0; stop -= std::min(stop, together)) {
    const int64_t start = std::max<int64_t>(0, stop - together);
    for (int64_t step = stop - 1; step >= start; --step) {
      const int64_t running = group.running(step), place = step - start;
      T *step_dx = dx.get() + place * inputs * L, *step_dp = Cell::additive ? step_dx : dp.get() + place * products * L;
      const T* lines[L];
      saved -= kSavedBlocks<Cell> * H * running;
      if (pass.grad_output.data) {
        group.lines_of(pass.grad_output, step, lines);
        to_lanes(lines, running, H, grad_output.get(), L);
      }
      narrow_step_back<Cell>(H, saved, grad_output.get(), running, carry.get(), step_dx, step_dp);
      multiply_lanes<1>(weights.w_hh.data(), H, products, step_dp, pass.mask ? Start::zero : Start::out, (pass.mask ? masked : carry).get(), L);
      for (int64_t i = 0; pass.mask && i < H * L; ++i) carry.get()[i] += group.mask.get()[i] * masked.get()[i];

      const Lanes<T> lanes(running);
      for (int64_t unit = 0; unit < H; ++unit) {
        Vec<T> value = lanes.load(saved + (kActivations<Cell> * H + unit) * running);
        if (pass.mask) value *= load(group.mask.get() + unit * L);
        store(h.get() + (place * H + unit) * L, value);
      }
      group.lines_of(pass.x, step, lines);
      to_lanes(lines, running, I, x.get() + place * I * L, L);
      if (!pass.grad_x.data) continue;
      T* grad_x_lines[L];
      group.lines_of(pass.grad_x, step, grad_x_lines);
      multiply_lanes<1>(weights.w_ih.data(), I, inputs, step_dx, Start::zero, grad_x.get(), L);
      from_lanes(grad_x.get(), running, I, grad_x_lines);
    }
    weights.grad_ih.add(stop - start, dx.get(), x.get());
    weights.grad_hh.add(stop - start, (Cell::additive ? dx : dp).get(), h.get());
  }

  for (int i = 0; i < Cell::states; ++i)
    if (pass.grad_initial[i]) group.write_rows(carry.get() + i * H * L, pass.grad_initial[i]);
  if (pass.grad_x.data) clear_padding(group.timeline, slice, pass.grad_x, I);
}

template <class Cell, class T>
void backward_narrow(const Layers<Backward<T>>& layers, const Parallel& parallel) {
  const auto jobs = narrow_jobs<T>(layers[0], parallel.threads);
  Found<Cell, T> found(layers, jobs);
  parallel.run(int64_t(jobs.size()), [&](int64_t i) {
    const int64_t number = jobs[i].pass;
    std::vector<NarrowWeights<Cell, T>> weights;
    for (const auto& passes : layers) weights.emplace_back(passes[number]);
    for_each_group<T>(*layers[0][number].timeline, jobs[i], [&](Slice slice, int64_t entry) {
      for (int64_t layer = int64_t(layers.size()) - 1; layer >= 0; --layer) {
        const Backward<T>& pass = layers[layer][number];
        narrow_backward<Cell>(pass, slice, pass.saved + entry * kSavedBlocks<Cell> * pass.hidden, weights[layer]);
      }
    });
    for (size_t layer = 0; layer < layers.size(); ++layer) {
      WeightGradients<Cell, T>& sums = found.at(layer, i);
      weights[layer].grad_ih.add_to(sums.w_ih.data(), sums.b_ih.data());
      weights[layer].grad_hh.add_to(sums.w_hh.data(), sums.b_hh.data());
    }
  });
  found.add_up();
}

}  // namespace deep_rnn

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
      multiply_tile<n, Vectors>(RowFactors<T, n>(rows), tile, depth, start, static_cast<const T*>(nullptr), lines, 0, Vectors * kLanes<T>);
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
  for (int64_t r = 0; r < group.rows; ++r)
    for (int64_t t = group.timeline.length(slice.first + r); t < group.timeline.steps(); ++t)
      std::fill_n(pass.output.at(t, group.column(r)), H, T(0));
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
void forward_narrow(const std::vector<Forward<T>>& passes, const Parallel& parallel) {
  const auto jobs = narrow_jobs<T>(passes, parallel.threads);
  parallel.run(int64_t(jobs.size()), [&](int64_t i) {
    const Forward<T>& pass = passes[jobs[i].pass];
    for_each_group<T>(*pass.timeline, jobs[i], [&](Slice slice, int64_t entry) {
      narrow_forward<Cell>(pass, slice, pass.saved ? pass.saved + entry * kSavedBlocks<Cell> * pass.hidden : nullptr);
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

template <class Cell, class T>
void narrow_backward(const Backward<T>& pass, Slice slice, const T* saved, const T* w_hh, const Packed<T>& w_ih,
                     WeightGradients<Cell, T>& gradients) {
  constexpr int L = kLanes<T>;
  constexpr int64_t together = 8;  // steps whose gate gradients are kept before they meet x, h and w_ih
  const NarrowGroup<T> group(pass, slice);
  const int64_t H = pass.hidden, I = pass.input, inputs = gradients.inputs, products = gradients.products;
  const Buffer<T> carry(Cell::states * H * L), masked(pass.mask ? H * L : 0), grad_output(pass.grad_output.data ? H * L : 0);
  const Buffer<T> dx(inputs * L), dp(Cell::additive ? 0 : products * L), h(H * L);
  const Buffer<T> dx_lines(together * L * inputs), dp_lines(Cell::additive ? 0 : together * L * products), h_lines(together * L * H);
  for (int i = 0; i < Cell::states; ++i) {
    if (pass.grad_final[i])
      group.read_rows(pass.grad_final[i], carry.get() + i * H * L);
    else
      std::fill_n(carry.get() + i * H * L, H * L, T(0));
  }
  for (int64_t step = 0; step < group.steps; ++step) saved += kSavedBlocks<Cell> * H * group.running(step);

  for (int64_t stop = group.steps; stop > 0; stop = std::max<int64_t>(0, stop - together)) {
    const T *x_of[together * L], *dx_of[together * L], *h_of[together * L];
    T* grad_x_of[together * L];
    int64_t entries = 0;
    for (int64_t step = stop - 1; step >= std::max<int64_t>(0, stop - together); --step) {
      const int64_t running = group.running(step);
      saved -= kSavedBlocks<Cell> * H * running;
      if (pass.grad_output.data) {
        const T* lines[L];
        group.lines_of(pass.grad_output, step, lines);
        to_lanes(lines, running, H, grad_output.get(), L);
      }
      narrow_step_back<Cell>(H, saved, grad_output.get(), running, carry.get(), dx.get(), dp.get());
      const T* to_h = Cell::additive ? dx.get() : dp.get();
      multiply_lanes<1>(w_hh, H, products, to_h, pass.mask ? Start::zero : Start::out, (pass.mask ? masked : carry).get(), L);
      for (int64_t i = 0; pass.mask && i < H * L; ++i) carry.get()[i] += group.mask.get()[i] * masked.get()[i];

      const Lanes<T> lanes(running);
      for (int64_t unit = 0; unit < H; ++unit) {
        Vec<T> value = lanes.load(saved + (kActivations<Cell> * H + unit) * running);
        if (pass.mask) value *= load(group.mask.get() + unit * L);
        store(h.get() + unit * L, value);
      }
      T *to_dx[L], *to_dp[L], *to_h_lines[L];
      for (int64_t r = 0; r < running; ++r) {
        to_dx[r] = dx_lines.get() + (entries + r) * inputs, to_dp[r] = dp_lines.get() + (entries + r) * products;
        to_h_lines[r] = h_lines.get() + (entries + r) * H, dx_of[entries + r] = to_dx[r], h_of[entries + r] = to_h_lines[r];
      }
      from_lanes(dx.get(), running, inputs, to_dx);
      if (!Cell::additive) from_lanes(dp.get(), running, products, to_dp);
      from_lanes(h.get(), running, H, to_h_lines);
      group.lines_of(pass.x, step, x_of + entries);
      if (pass.grad_x.data) group.lines_of(pass.grad_x, step, grad_x_of + entries);
      entries += running;
    }
    if (pass.grad_x.data) multiply(dx_of, grad_x_of, entries, w_ih, Start::zero);
    gradients.add(entries, pass, [&](int64_t k) { return dx_lines.get() + k * inputs; },
                  [&](int64_t k) { return Cell::additive ? dx_lines.get() + k * inputs : dp_lines.get() + k * products; }, x_of, h_of);
  }

  for (int i = 0; i < Cell::states; ++i)
    if (pass.grad_initial[i]) group.write_rows(carry.get() + i * H * L, pass.grad_initial[i]);
  for (int64_t r = 0; r < group.rows && pass.grad_x.data; ++r)
    for (int64_t t = group.timeline.length(slice.first + r); t < group.timeline.steps(); ++t)
      std::fill_n(pass.grad_x.at(t, group.column(r)), I, T(0));
}

template <class Cell, class T>
void backward_narrow(const std::vector<Backward<T>>& passes, const Parallel& parallel) {
  const auto jobs = narrow_jobs<T>(passes, parallel.threads);
  std::vector<WeightGradients<Cell, T>> found;
  std::vector<int64_t> pass_of;
  for (const auto& job : jobs) found.emplace_back(passes[job.pass]), pass_of.push_back(job.pass);
  parallel.run(int64_t(jobs.size()), [&](int64_t i) {
    const Backward<T>& pass = passes[jobs[i].pass];
    const auto w_hh = turned(pass.w_hh, Cell::products * pass.hidden, pass.hidden);
    const Packed<T> w_ih(pass.grad_x.data ? Cell::inputs * pass.hidden : 0, pass.input);
    for (int64_t tile = 0; w_ih.depth() && tile < w_ih.tiles(); ++tile) w_ih.pack_tile(tile, pass.w_ih, pass.input, 1);
    for_each_group<T>(*pass.timeline, jobs[i], [&](Slice slice, int64_t entry) {
      narrow_backward<Cell>(pass, slice, pass.saved + entry * kSavedBlocks<Cell> * pass.hidden, w_hh.data(), w_ih, found[i]);
    });
  });
  WeightGradients<Cell, T>::add_up(found, pass_of, passes);
}

}  // namespace deep_rnn

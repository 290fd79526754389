// What the driver is asked to do: one direction of one layer over one batch.
#pragma once

#include <functional>

#include "product.h"
#include "shape.h"
#include "timeline.h"

namespace deep_rnn {

// A caller's [T, B, features], any strides but the last.
template <class T>
struct Sequence {
  T* data = nullptr;
  int64_t time_stride = 0, batch_stride = 0;

  T* at(int64_t time, int64_t column) const { return data + time * time_stride + column * batch_stride; }
};

// The parameters of one transition within a step, or their gradients.
template <class P>
struct Level {
  P w_hh{}, b_hh{};                // of all products
  P w_middle{};                    // of the second product
  P gain{};                        // [all_products * H]: layer norm of the products
  P norm_weight{}, norm_bias{};    // [H]: layer norm in the middle of the step
};

// What only the walk (walk.h) reads of a cell's parameters.
template <class P>
struct More {
  P gain_ih{};                // [inputs * H]: layer norm of the input product
  P shortcut{};               // [inputs * H, H]: what the last transition reads of the state before the step
  P vectors[kMostVectors]{};  // [H] each
  std::vector<Level<P>> levels;
};

// Shapes: I input, H hidden. Null where a cell has none of it: biases, mask; w_ih null: x holds the gate inputs themselves.
template <class T>
struct Pass {
  const Timeline* timeline;
  bool reverse;
  int64_t input, hidden;
  Sequence<const T> x;
  const T *w_ih, *w_hh;  // [inputs * H, I], [products * H, H]
  const T *b_ih, *b_hh;
  const T* mask;  // [B, H], times h before the recurrent product
  T* saved;       // [entries, saved_size]: what backward needs; forward without it keeps nothing

  const T* drop = nullptr;                // [B, H], times the candidate
  const bool* zones[kMostStates]{};       // [T, B, H] each: which units keep their old value; null: zone_rates of it
  T zone_rates[kMostStates]{};            // zoneout, field by field of the state
  std::array<T, kMostConstants> constants{};  // of the cell's equations
  More<const T*> more;

  // Whether anything is asked for that the plain driver does not do.
  bool walks() const {
    return drop || more.gain_ih || more.levels.size() > 1 || (!more.levels.empty() && more.levels[0].gain) ||
           std::any_of(zone_rates, zone_rates + kMostStates, [](T rate) { return rate > 0; });
  }
};

template <class T>
struct Forward : Pass<T> {
  const T* initial[kMostStates];  // [B, H] each
  T* final[kMostStates];          // [B, H] each
  Sequence<T> output;             // h of each step, zero after a row's end
  bool streams = false;           // what is saved goes past the caches
};

// How many bytes a call may save, all layers and directions taken together, before they go past the caches: what a core has for
// itself. Of more a store would first read the line that it overwrites, and the backward pass asks for all of it long before it
// reads it. (On a Zen 5 server forward and backward of 1 to 30 MB take 0.92 to 0.99 times as long past the caches, of 50 KB 1.1
// times.)
constexpr int64_t kMostSavedInCache = kCacheBytes;

// Null inputs are zero, null results are not wanted.
template <class T>
struct Backward : Pass<T> {
  const T* grad_final[kMostStates];
  Sequence<const T> grad_output;
  T* grad_initial[kMostStates];
  Sequence<T> grad_x;
  T *grad_w_ih, *grad_w_hh, *grad_b_ih, *grad_b_hh;
  More<T*> grad_more;
};

// Passes of some layers, from the bottom up, as many in each. Pass i of a layer reads, row by row, what pass i of the layer
// below writes and nothing else of it, so that a slice of the batch can be led through all layers by one thread.
template <class PassType>
using Layers = std::vector<std::vector<PassType>>;

// Saved blocks of an entry: the cell's activations, in the place of its gate inputs, then the state before the step.
template <class Cell>
constexpr int kActivations = std::max(Cell::inputs, Cell::saved);
template <class Cell>
constexpr int kSavedBlocks = kActivations<Cell> + Cell::states;

// How the core runs jobs side by side; the caller brings the threads.
struct Parallel {
  int threads;
  std::function<void(int64_t count, const std::function<void(int64_t)>& job)> run;  // jobs 0 ... count - 1
  // job(member, members), once for each member of a team of at most `most`, all at the same time: they may wait for each other.
  // An exception would leave the others waiting, so one that a job lets out ends the process.
  std::function<void(int most, const std::function<void(int, int)>& job)> together;
};

struct Job {
  int64_t pass;
  Slice slice;
};

// Slices of all passes. A thread gets at least one; more rows than kMostRows in one slice would not fit its cache.
template <class PassType>
std::vector<Job> slice_passes(const std::vector<PassType>& passes, int threads) {
  constexpr int64_t kMostRows = 32;
  const int64_t a_thread_each = (threads + int64_t(passes.size()) - 1) / int64_t(passes.size());
  std::vector<Job> jobs;
  for (size_t i = 0; i < passes.size(); ++i) {
    const int64_t rounds = (passes[i].timeline->batch() + kMostRows * a_thread_each - 1) / (kMostRows * a_thread_each);
    for (const Slice& slice : cut(*passes[i].timeline, a_thread_each * std::max<int64_t>(rounds, 1)))
      jobs.push_back({int64_t(i), slice});
  }
  return jobs;
}

// Zeros where rows of a slice have ended, in the order in which that lies in memory: row by row every line would be on another
// page.
template <class T>
void clear_padding(const Timeline& timeline, Slice slice, Sequence<T> to, int64_t width) {
  for (int64_t time = 0; time < timeline.steps(); ++time)
    for (int64_t r = std::max<int64_t>(0, slice.running(timeline, time)); r < slice.rows(); ++r)
      std::fill_n(to.at(time, timeline.column(slice.first + r)), width, T(0));
}

// What a slice saved of a step, in lines of `size`.
template <class T>
Ahead<T> saved_lines(const Pass<T>& pass, Slice slice, int64_t step, int64_t size) {
  const T* from = pass.saved + pass.timeline->entry(step, slice.first) * size;
  return {from, slice.running(*pass.timeline, step) * size / kLanes<T>};
}

// Packs all tiles of some packed weights, side by side where that is worth the threads' while.
template <class Weights>
void pack_all(const std::vector<std::vector<Weights>>& layers, const Parallel& parallel) {
  std::vector<std::pair<const Weights*, int64_t>> jobs;
  int64_t bytes = 0;
  for (const auto& weights : layers)
    for (const Weights& one : weights) {
      bytes += one.bytes();
      for (int64_t tile = 0; tile < one.tiles(); ++tile) jobs.emplace_back(&one, tile);
    }
  const auto pack = [&](int64_t i) { jobs[i].first->pack(jobs[i].second); };
  if (bytes >= kCacheBytes) return parallel.run(int64_t(jobs.size()), pack);
  for (size_t i = 0; i < jobs.size(); ++i) pack(int64_t(i));
}

// Entries whose projections are multiplied together: enough to fill the product's tiles, few enough to stay in the cache.
constexpr int64_t kEntriesTogether = 64;

template <class T>
void multiply_elements(int64_t count, const T* a, const T* b, T* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = a[i] * b[i];
}

}  // namespace deep_rnn

// The time axis of a batch whose rows end at different times.
//
// Rows are numbered longest first, so that the rows still running at any step are the first ones: a finished row costs
// nothing. The valid (step, row) pairs, the "entries", are numbered step by step, in the order in which they are walked;
// buffers that hold one line an entry hold no padding.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

namespace deep_rnn {

class Timeline {
 public:
  // `lengths` null: every row has all the steps.
  Timeline(int64_t steps, int64_t batch, const int64_t* lengths) : column_(batch), length_(batch, steps), first_(steps + 1) {
    std::iota(column_.begin(), column_.end(), 0);
    if (lengths) {
      std::stable_sort(column_.begin(), column_.end(), [&](int64_t a, int64_t b) { return lengths[a] > lengths[b]; });
      for (int64_t row = 0; row < batch; ++row) length_[row] = lengths[column_[row]];
    }
    int64_t running = batch;
    for (int64_t t = 0; t < steps; ++t) {
      while (running > 0 && length_[running - 1] <= t) --running;
      first_[t + 1] = first_[t] + running;
    }
  }

  int64_t steps() const { return int64_t(first_.size()) - 1; }
  int64_t batch() const { return int64_t(length_.size()); }
  int64_t entries() const { return first_.back(); }
  int64_t length(int64_t row) const { return length_[row]; }
  int64_t column(int64_t row) const { return column_[row]; }  // where the row stands in the caller's batch
  int64_t running(int64_t step) const { return first_[step + 1] - first_[step]; }

  // Backwards, a row's step 0 is its own last time: only the valid part is reversed.
  int64_t time(int64_t step, int64_t row, bool reverse) const { return reverse ? length_[row] - 1 - step : step; }
  int64_t entry(int64_t step, int64_t row) const { return first_[step] + row; }

 private:
  std::vector<int64_t> column_, length_, first_;
};

// Rows [first, last) of a timeline: what one thread walks from the first step to the last, waiting for nobody.
struct Slice {
  int64_t first, last;

  int64_t rows() const { return last - first; }
  int64_t steps(const Timeline& timeline) const { return rows() > 0 ? timeline.length(first) : 0; }
  int64_t running(const Timeline& timeline, int64_t step) const { return std::min(timeline.running(step), last) - first; }

  // Where a block of steps ends that begins at `start`; begins that ends at `stop`: as many as have `entries` rows in all,
  // or one.
  int64_t end_of_block(const Timeline& timeline, int64_t start, int64_t entries) const {
    int64_t stop = start + 1, count = running(timeline, start);
    while (stop < steps(timeline) && (count += running(timeline, stop)) <= entries) ++stop;
    return stop;
  }
  int64_t start_of_block(const Timeline& timeline, int64_t stop, int64_t entries) const {
    int64_t start = stop - 1, count = running(timeline, start);
    while (start > 0 && (count += running(timeline, start - 1)) <= entries) --start;
    return start;
  }
};

// Cuts the batch into `count` slices of about equal numbers of entries.
inline std::vector<Slice> cut(const Timeline& timeline, int64_t count) {
  std::vector<Slice> slices;
  int64_t row = 0, done = 0;
  for (int64_t i = 1; i <= count; ++i) {
    const int64_t first = row;
    while (row < timeline.batch() && (i == count || done + timeline.length(row) / 2 < timeline.entries() * i / count))
      done += timeline.length(row++);
    if (row > first) slices.push_back({first, row});
  }
  return slices;
}

}  // namespace deep_rnn

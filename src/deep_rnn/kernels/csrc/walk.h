// Forward for every cell and option: each slice of the batch walks from its first step to its last. The plain driver
// (forward.h) does the same for cells of one recurrent product, with less to ask at each step.
#pragma once

#include "norm.h"
#include "pass.h"
#include "row.h"

namespace deep_rnn {

template <class T>
struct WalkedCell {
  CellShape shape;
  RowFunctions<T> rows;
};

// What all rows of a pass share of a walk, forward and back.
template <class T>
struct Walk {
  const CellShape& cell;
  const Pass<T>& pass;
  const Timeline& timeline;
  int64_t H, states, sources, levels;  // sizes: of a unit block, of all states, of what the recurrent product reads
  bool norms_inputs, norms_products, zones;
  Layout layout;

  Walk(const CellShape& cell, const Pass<T>& pass)
      : cell(cell),
        pass(pass),
        timeline(*pass.timeline),
        H(pass.hidden),
        states(cell.states * H),
        sources(cell.sources * H),
        levels(int64_t(pass.more.levels.size())),
        norms_inputs(pass.more.gain_ih),
        norms_products(pass.more.levels[0].gain),
        zones(std::any_of(pass.zone_rates, pass.zone_rates + kMostStates, [](T rate) { return rate > 0; })),
        layout(cell, H, levels, norms_inputs, norms_products) {}

  // Whether the first product has a place of its own, or is added to the gate inputs; the second is added unless normalised.
  bool products_apart() const { return !cell.additive || norms_products; }
  bool has_shortcut(int64_t level) const { return pass.more.shortcut && level > 0 && level == levels - 1; }
  const T* mask(int64_t column) const { return pass.mask ? pass.mask + column * H : nullptr; }

  RowSettings<T> settings(int64_t column) const {
    return {H, mask(column), pass.drop ? pass.drop + column * H : nullptr, pass.more.vectors, pass.constants.data()};
  }

  // Calls f(blocks before, blocks, group) for the groups that layer norm takes together among product blocks [first, last).
  template <class F>
  void for_groups(int64_t first, int64_t last, F f) const {
    for (int64_t group = 0, at = 0; group < cell.groups; at += cell.norm_groups[group++])
      if (at >= first && at < last) f(at, cell.norm_groups[group], group);
  }

  // Which units of a field keep their old value at a step; null: all of them some of it.
  const bool* zone(int field, int64_t time, int64_t column) const {
    const bool* drawn = pass.zones[field];
    return drawn ? drawn + (time * timeline.batch() + column) * H : nullptr;
  }
};

template <class T>
struct LevelWeights {
  Packed<T> w_hh, w_middle;            // transposed: [sources, products * H], [H, middle_products * H]
  std::vector<T> input_bias, product_bias;  // added to the gate inputs; to the first product where that stands apart
};

// Weights of a pass as the forward walk reads them.
template <class T>
struct WalkWeights {
  Packed<T> w_ih, shortcut;
  std::vector<LevelWeights<T>> levels;

  explicit WalkWeights(const Walk<T>& walk)
      : w_ih(transposed(walk.pass.w_ih, walk.pass.input, walk.cell.projected() * walk.H)),
        shortcut(transposed(walk.pass.more.shortcut, walk.H, walk.cell.inputs * walk.H)) {
    const CellShape& cell = walk.cell;
    const int64_t H = walk.H;
    for (int64_t k = 0; k < walk.levels; ++k) {
      const Level<const T*>& from = walk.pass.more.levels[k];
      levels.push_back({transposed(from.w_hh, walk.sources, cell.products * H), transposed(from.w_middle, H, cell.middle_products * H),
                        std::vector<T>(cell.inputs * H), std::vector<T>(cell.all_products() * H)});
      LevelWeights<T>& level = levels.back();
      if (k == 0 && walk.pass.b_ih) std::copy_n(walk.pass.b_ih, cell.projected() * H, level.input_bias.data());
      auto& to = cell.additive ? level.input_bias : level.product_bias;
      for (int64_t i = 0; from.b_hh && i < cell.all_products() * H; ++i) to[i] += from.b_hh[i];
    }
  }

  // w [width, depth] as Packed [depth, width].
  static Packed<T> transposed(const T* w, int64_t depth, int64_t width) {
    Packed<T> packed(w ? depth : 0, width);
    for (int64_t tile = 0; w && tile < packed.tiles(); ++tile) packed.pack_tile(tile, w, 1, depth);
    return packed;
  }
};

template <class T>
class ForwardSlice {
 public:
  ForwardSlice(const WalkedCell<T>& cell, const Forward<T>& pass, const WalkWeights<T>& weights, Slice slice)
      : walk_(cell.shape, pass), rows_(cell.rows), pass_(pass), weights_(weights), slice_(slice), count_(slice.rows()),
        most_lines_(std::max(count_, kEntriesTogether)),
        states_(count_ * walk_.states),
        old_(walk_.zones || pass.more.shortcut ? count_ * walk_.states : 0), masked_(pass.mask ? count_ * walk_.sources : 0),
        lines_(most_lines_ * walk_.cell.activations * walk_.H),
        products_(walk_.products_apart() ? count_ * walk_.cell.all_products() * walk_.H : 0),
        middles_(walk_.cell.middle != Middle::none ? count_ * walk_.H : 0), from_(count_), to_(count_) {
    for (int64_t i = 0; i < most_lines_; ++i) entry_lines_.push_back(lines_.get() + i * walk_.cell.activations * walk_.H);
  }

  void run() {
    const Timeline& timeline = walk_.timeline;
    for (int64_t r = 0; r < count_; ++r)
      for (int i = 0; i < walk_.cell.states; ++i)
        std::copy_n(pass_.initial[i] + column(r) * walk_.H, walk_.H, state(r) + i * walk_.H);
    const int64_t steps = slice_.steps(timeline);
    for (int64_t start = 0, stop; start < steps; start = stop) {
      stop = slice_.end_of_block(timeline, start, kEntriesTogether);
      project(start, stop);
      for (int64_t step = start, first = 0; step < stop; first += slice_.running(timeline, step++)) advance(step, first);
    }
    if (pass_.streams) end_of_streams();
    for (int64_t r = 0; r < count_; ++r)
      for (int i = 0; i < walk_.cell.states; ++i)
        std::copy_n(state(r) + i * walk_.H, walk_.H, pass_.final[i] + column(r) * walk_.H);
    clear_padding(timeline, slice_, pass_.output, walk_.H);
  }

 private:
  int64_t column(int64_t r) const { return walk_.timeline.column(slice_.first + r); }
  int64_t time(int64_t step, int64_t r) const { return walk_.timeline.time(step, slice_.first + r, pass_.reverse); }
  T* state(int64_t r) const { return states_.get() + r * walk_.states; }
  T* old(int64_t r) const { return old_.get() + r * walk_.states; }
  T* products(int64_t r) const { return products_.get() + r * walk_.cell.all_products() * walk_.H; }
  T* middle(int64_t r) const { return middles_.get() + r * walk_.H; }
  // Of the step at hand: the gate inputs of a row, and where it keeps something for the backward.
  T* line(int64_t r) const { return entry_lines_[first_ + r]; }
  Kept<T> kept(int64_t r, int64_t place) const { return {kept_lines_[first_ + r], place, pass_.streams}; }
  Kept<T> kept(int64_t r, int64_t level, int64_t place) const { return kept(r, level * walk_.layout.level + place); }

  // The gate inputs of some steps.
  void project(int64_t start, int64_t stop) {
    const Timeline& timeline = walk_.timeline;
    const Layout& layout = walk_.layout;
    const int64_t H = walk_.H, projected = walk_.cell.projected() * H;
    inputs_.clear(), kept_lines_.clear();
    for (int64_t step = start; step < stop; ++step)
      for (int64_t r = 0; r < slice_.running(timeline, step); ++r) {
        inputs_.push_back(pass_.x.at(time(step, r), column(r)));
        kept_lines_.push_back(pass_.saved ? pass_.saved + timeline.entry(step, slice_.first + r) * layout.size : nullptr);
      }
    const int64_t count = int64_t(inputs_.size());
    const T* bias = weights_.levels[0].input_bias.data();
    multiply(inputs_.data(), entry_lines_.data(), count, weights_.w_ih, walk_.norms_inputs ? Start::zero : Start::bias, bias);
    for (int64_t i = 0; walk_.cell.reads_x && i < count; ++i) std::copy_n(inputs_[i], H, entry_lines_[i] + projected);
    first_ = 0;
    for (int64_t i = 0; walk_.norms_inputs && i < count; ++i)
      walk_.for_groups(0, walk_.cell.inputs, [&](int64_t at, int64_t blocks, int64_t group) {
        T* gates = line(i) + at * H;
        const T scale = normalise(blocks * H, gates, pass_.more.gain_ih + at * H, bias + at * H, gates, kept(i, layout.normed_inputs + at * H));
        kept(i, layout.scales + group).store(scale);
      });
  }

  // One step of all rows that still run; the first one's line is number `first`.
  void advance(int64_t step, int64_t first) {
    const int64_t running = slice_.running(walk_.timeline, step);
    first_ = first;
    if (walk_.zones || pass_.more.shortcut) std::copy_n(states_.get(), running * walk_.states, old_.get());
    for (int64_t level = 0; level < walk_.levels; ++level) {
      if (level > 0) start_level(level, running);
      multiply_first(level, running);
      const bool at_once = walk_.cell.middle != Middle::product;  // a row stays in the nearest cache until it is done
      for (int64_t r = 0; r < running; ++r) {
        begin_row(level, r);
        if (at_once) end_row(level, r);
      }
      if (at_once) continue;
      multiply_second(level, running);
      for (int64_t r = 0; r < running; ++r) end_row(level, r);
    }
    for (int64_t r = 0; r < running; ++r) {
      if (walk_.zones) zone_out(r, step);
      std::copy_n(state(r), walk_.H, pass_.output.at(time(step, r), column(r)));
    }
  }

  // A transition without input of its own begins from its bias; the last may read the state before the step.
  void start_level(int64_t level, int64_t running) {
    const std::vector<T>& bias = weights_.levels[level].input_bias;
    for (int64_t r = 0; r < running; ++r) std::copy(bias.begin(), bias.end(), line(r));
    if (!walk_.has_shortcut(level)) return;
    point_at_sources(running, [&](int64_t r) { return old(r); });
    multiply(from_.data(), &entry_lines_[first_], running, weights_.shortcut, Start::out);
  }

  // Lets from_ point at what a recurrent product reads: the state, through the mask where there is one.
  template <class State>
  void point_at_sources(int64_t running, State state) {
    const int64_t H = walk_.H;
    for (int64_t r = 0; r < running; ++r) {
      T* masked = masked_.get() + r * walk_.sources;
      for (int i = 0; pass_.mask && i < walk_.cell.sources; ++i)
        multiply_elements(H, state(r) + i * H, walk_.mask(column(r)), masked + i * H);
      from_[r] = pass_.mask ? masked : state(r);
    }
  }

  void multiply_first(int64_t level, int64_t running) {
    if (walk_.cell.products == 0) return;
    const LevelWeights<T>& weights = weights_.levels[level];
    point_at_sources(running, [&](int64_t r) { return state(r); });
    if (!walk_.products_apart()) return multiply(from_.data(), &entry_lines_[first_], running, weights.w_hh, Start::out);
    for (int64_t r = 0; r < running; ++r) to_[r] = products(r);
    const Start start = walk_.norms_products ? Start::zero : Start::bias;
    multiply(from_.data(), to_.data(), running, weights.w_hh, start, weights.product_bias.data());
  }

  void multiply_second(int64_t level, int64_t running) {
    const int64_t first = walk_.cell.products, at = walk_.cell.middle_at() * walk_.H;
    for (int64_t r = 0; r < running; ++r) {
      if (pass_.saved) std::copy_n(middle(r), walk_.H, kept(r, level, walk_.layout.middle).to);
      from_[r] = middle(r);
      to_[r] = walk_.norms_products ? products(r) + first * walk_.H : line(r) + at;
    }
    multiply(from_.data(), to_.data(), running, weights_.levels[level].w_middle, walk_.norms_products ? Start::zero : Start::out);
  }

  // A row's step from its first product to its middle; from there to its end.
  void begin_row(int64_t level, int64_t r) {
    if (walk_.norms_products) normalise_products(level, r, 0, walk_.cell.products);
    if (walk_.cell.middle != Middle::none) rows_.first(row(level, r, products(r)));
  }

  void end_row(int64_t level, int64_t r) {
    const bool after_norm = walk_.cell.middle == Middle::norm;
    if (after_norm) normalise_middle(level, r);
    if (walk_.norms_products) normalise_products(level, r, walk_.cell.products, walk_.cell.all_products());
    rows_.last(row(level, r, after_norm ? middle(r) : products(r)));
  }

  Row<T> row(int64_t level, int64_t r, const T* given) const {
    return {walk_.settings(column(r)), line(r), given, state(r), kept(r, level, 0), middle(r)};
  }

  // Products [first, last), to where the cell looks for them.
  void normalise_products(int64_t level, int64_t r, int64_t first, int64_t last) {
    const int64_t H = walk_.H;
    const T *gain = pass_.more.levels[level].gain, *bias = weights_.levels[level].product_bias.data();
    walk_.for_groups(first, last, [&](int64_t at, int64_t blocks, int64_t group) {
      T *product = products(r) + at * H, *to = walk_.cell.additive ? line(r) + at * H : product;
      const T scale = normalise(blocks * H, product, gain + at * H, walk_.cell.additive ? to : bias + at * H, to,
                                kept(r, level, walk_.layout.normed + at * H));
      kept(r, walk_.layout.scale(level, group)).store(scale);
    });
  }

  void normalise_middle(int64_t level, int64_t r) {
    const Level<const T*>& norm = pass_.more.levels[level];
    const T scale = normalise(walk_.H, middle(r), norm.norm_weight, norm.norm_bias, middle(r), kept(r, level, walk_.layout.middle));
    kept(r, walk_.layout.middle_scale(level)).store(scale);
  }

  // Units keep their old value where the zone was drawn, or as much of it as is expected.
  void zone_out(int64_t r, int64_t step) {
    const int64_t H = walk_.H;
    for (int i = 0; i < walk_.cell.states; ++i) {
      const T rate = pass_.zone_rates[i], *before = old(r) + i * H;
      T* after = state(r) + i * H;
      if (!(rate > 0)) continue;
      const bool* zone = walk_.zone(i, time(step, r), column(r));
      for_row<T>(H, [=](auto lanes, int64_t u) {
        const Vec<T> old = lanes.load(before + u), next = lanes.load(after + u);
        lanes.store(after + u, zone ? choose(zone + u, H - u, old, next) : rate * old + (1 - rate) * next);
      });
    }
  }

  const Walk<T> walk_;
  const RowFunctions<T>& rows_;
  const Forward<T>& pass_;
  const WalkWeights<T>& weights_;
  const Slice slice_;
  const int64_t count_, most_lines_;
  const Buffer<T> states_, old_, masked_, lines_, products_, middles_;
  int64_t first_ = 0;
  std::vector<const T*> from_, inputs_;
  std::vector<T*> to_, entry_lines_, kept_lines_;
};

template <class T>
void walk_forward(const WalkedCell<T>& cell, const std::vector<Forward<T>>& passes, const Parallel& parallel) {
  std::vector<WalkWeights<T>> weights;
  for (const auto& pass : passes) weights.emplace_back(Walk<T>(cell.shape, pass));
  const std::vector<Job> jobs = slice_passes(passes, parallel.threads);
  parallel.run(int64_t(jobs.size()), [&](int64_t i) {
    ForwardSlice<T>(cell, passes[jobs[i].pass], weights[jobs[i].pass], jobs[i].slice).run();
  });
}

}  // namespace deep_rnn

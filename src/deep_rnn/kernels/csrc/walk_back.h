// Backward for every cell and option: the walk from the last step to the first, which leaves the gradients of the gates, and
// the gradients of the weights from these.
#pragma once

#include <deque>
#include <list>

#include "walk.h"

namespace deep_rnn {

// Vectors of one value a unit, whose gradients every slice adds up for itself.
struct SumPlaces {
  struct OfLevel {
    int64_t gain, bias, norm_weight, norm_bias;
  };
  int64_t gain_ih, b_ih, vectors, size;
  std::vector<OfLevel> levels;

  template <class T>
  explicit SumPlaces(const Walk<T>& walk) {
    const int64_t H = walk.H;
    int64_t at = 0;
    const auto place = [&](int64_t count) { return std::exchange(at, at + count); };
    gain_ih = place(walk.norms_inputs * walk.cell.inputs * H), b_ih = place(walk.norms_inputs * walk.cell.inputs * H);
    vectors = place(walk.cell.vectors * H);
    for (int64_t k = 0; k < walk.levels; ++k) {
      const int64_t products = walk.norms_products * walk.cell.all_products() * H, norm = (walk.cell.middle == Middle::norm) * H;
      levels.push_back({});
      levels.back() = {place(products), place(products), place(norm), place(norm)};
    }
    size = at;
  }
};

// A pass's weights as the walk back reads them.
template <class T>
struct WalkBackWeights {
  Packed<T> w_ih, shortcut;  // as they are: [projected * H, I], [inputs * H, H]
  std::vector<Packed<T>> w_hh, w_middle;

  WalkBackWeights(const Walk<T>& walk, const Backward<T>& pass)
      : w_ih(as_it_is(pass.grad_x.data ? pass.w_ih : nullptr, walk.cell.projected() * walk.H, pass.input)),
        shortcut(as_it_is(pass.more.shortcut, walk.cell.inputs * walk.H, walk.H)) {
    for (const Level<const T*>& level : pass.more.levels) {
      w_hh.push_back(as_it_is(level.w_hh, walk.cell.products * walk.H, walk.sources));
      w_middle.push_back(as_it_is(level.w_middle, walk.cell.middle_products * walk.H, walk.H));
    }
  }

  static Packed<T> as_it_is(const T* w, int64_t depth, int64_t width) {
    Packed<T> packed(w ? depth : 0, width);
    for (int64_t tile = 0; w && tile < packed.tiles(); ++tile) packed.pack_tile(tile, w, width, 1);
    return packed;
  }
};

// What the walk back leaves behind for the gradients of the weights, a line an entry: of all entries of a pass, or of those
// of some steps.
template <class T>
struct WalkGradients {
  const Walk<T>& walk;
  int64_t input_line, product_line, masked_line;
  Buffer<T> inputs;          // [lines, levels, inputs * H]
  Buffer<T> input_products;  // [lines, inputs * H]: before their layer norm, where the recurrent product still needs the others
  Buffer<T> products;        // [lines, levels, all_products * H], where they are not those of the inputs
  Buffer<T> masked;          // [lines, levels, sources], if there is a mask: the state as the recurrent product saw it
  std::vector<const T*> x, saved, states;  // [lines]: where x, what the forward kept, and what the first level's product read lie

  WalkGradients(const Walk<T>& walk, int64_t lines)
      : walk(walk),
        input_line(walk.cell.inputs * walk.H),
        product_line(walk.products_apart() ? walk.cell.all_products() * walk.H : 0),
        masked_line(walk.pass.mask && walk.cell.products ? walk.sources : 0),
        inputs(lines * walk.levels * input_line),
        input_products(walk.norms_inputs && !walk.norms_products ? lines * input_line : 0),
        products(lines * walk.levels * product_line),
        masked(lines * walk.levels * masked_line),
        x(lines),
        saved(lines),
        states(lines) {}

  // Line `line` is that of an entry, whose x and whose kept line are given.
  void begin(int64_t line, const T* x_line, const T* kept) {
    x[line] = x_line, saved[line] = kept;
    states[line] = masked_line ? masked_state(line, 0) : kept + walk.layout.prev;
  }

  T* input(int64_t line, int64_t level) const { return inputs.get() + (line * walk.levels + level) * input_line; }
  // The gradient of W_ih x.
  T* input_product(int64_t line) const {
    return walk.norms_inputs && !walk.norms_products ? input_products.get() + line * input_line : input(line, 0);
  }
  T* product(int64_t line, int64_t level) const { return products.get() + (line * walk.levels + level) * product_line; }
  T* masked_state(int64_t line, int64_t level) const { return masked.get() + (line * walk.levels + level) * masked_line; }
  // From what one level's product read to what the next one's did.
  int64_t states_stride() const { return masked_line ? masked_line : walk.layout.level; }

  // The gradient of the first product; of the second.
  T* first_product(int64_t line, int64_t level) const { return walk.products_apart() ? product(line, level) : input(line, level); }
  T* second_product(int64_t line, int64_t level) const {
    return walk.norms_products ? product(line, level) + walk.cell.products * walk.H : input(line, level) + walk.cell.middle_at() * walk.H;
  }
};

// A weight's gradient: the sum over lines of gate gradients `a` times what they were multiplied with, `b`.
template <class T>
struct WeightSum {
  const T* a;
  int64_t a_stride;
  const T* const* b;
  int64_t b_place;  // in each line of b
  int64_t lines, width;
  T *out, *bias;

  int64_t size() const { return lines * width + (bias ? lines : 0); }

  // Adds the sum over the first `count` lines to rows [first, last) of a gradient, and to its bias.
  void add(int64_t count, int64_t first, int64_t last, T* to, T* to_bias) const {
    add_outer_sums(
        count, Lines<const T>{a, a_stride}, first, last, bias ? to_bias : nullptr,
        OuterSum{[&](int64_t k) { return b[k] + b_place; }, width, to});
  }
};

template <class T>
std::vector<WeightSum<T>> weight_sums(const Backward<T>& pass, const WalkGradients<T>& g) {
  const Walk<T>& walk = g.walk;
  const CellShape& cell = walk.cell;
  const int64_t H = walk.H, inputs = walk.levels * g.input_line, products = walk.levels * g.product_line;
  std::vector<WeightSum<T>> sums;
  if (pass.grad_w_ih)
    sums.push_back({g.input_product(0), g.input_product(0) == g.input(0, 0) ? inputs : g.input_line, g.x.data(), 0, cell.projected() * H,
                    pass.input, pass.grad_w_ih, walk.norms_inputs ? nullptr : pass.grad_b_ih});
  for (int64_t k = 0; k < walk.levels; ++k) {
    const Level<T*>& to = pass.grad_more.levels[k];
    T* const bias = walk.norms_products ? nullptr : to.b_hh;
    if (to.w_hh)
      sums.push_back({g.first_product(0, k), walk.products_apart() ? products : inputs, g.states.data(), k * g.states_stride(),
                      cell.products * H, walk.sources, to.w_hh, bias});
    if (to.w_middle)
      sums.push_back({g.second_product(0, k), walk.norms_products ? products : inputs, g.saved.data(),
                      k * walk.layout.level + walk.layout.middle, cell.middle_products * H, H, to.w_middle,
                      bias ? bias + cell.products * H : nullptr});
    if (walk.has_shortcut(k) && pass.grad_more.shortcut)
      sums.push_back({g.input(0, k), inputs, g.states.data(), 0, cell.inputs * H, H, pass.grad_more.shortcut, nullptr});
  }
  return sums;
}

// What the slices of a pass share on the walk back, and what they find.
template <class T>
struct WalkBack {
  const Walk<T> walk;
  const Backward<T>& pass;
  const WalkBackWeights<T> weights;
  const SumPlaces places;
  const bool adds;                     // whether each slice adds up the weights' gradients for itself while it walks
  WalkGradients<T> gradients;            // of all entries, if not
  const std::vector<WeightSum<T>> sums;
  std::list<std::vector<T>> slice_sums;  // of every slice: what SumPlaces says, then the weights' gradients if it adds them up

  WalkBack(const CellShape& cell, const Backward<T>& pass)
      : walk(cell, pass), pass(pass), weights(walk, pass), places(walk), adds(fits(walk, pass)),
        gradients(walk, adds ? 0 : walk.timeline.entries()), sums(weight_sums(pass, gradients)) {}

  // A slice's sums, zero to begin with.
  T* begin_slice() {
    int64_t size = places.size;
    for (const WeightSum<T>& sum : sums) size += adds * sum.size();
    return slice_sums.emplace_back(size).data();
  }

 private:
  // As long as the weights' gradients fit a core's cache, adding them up on the way saves writing the gate gradients of all
  // entries to memory and reading them back.
  static bool fits(const Walk<T>& walk, const Backward<T>& pass) {
    int64_t bytes = 0;
    for (const WeightSum<T>& sum : weight_sums(pass, WalkGradients<T>(walk, 0))) bytes += int64_t(sizeof(T)) * sum.lines * sum.width;
    return bytes <= kCacheBytes;
  }
};

template <class T>
class BackwardSlice {
 public:
  BackwardSlice(const WalkedCell<T>& cell, WalkBack<T>& back, Slice slice, T* sums)
      : cell_(cell.shape), rows_(cell.rows), back_(back), walk_(back.walk), pass_(back.pass), slice_(slice), sums_(sums),
        count_(slice.rows()), H_(walk_.H), own_(walk_, back.adds ? std::max(count_, kBlock) : 0),
        gradients_(back.adds ? own_ : back.gradients), carries_(count_ * walk_.states), kept_(walk_.zones ? count_ * walk_.states : 0),
        middles_(cell_.middle != Middle::none ? count_ * H_ : 0), sources_(pass_.mask ? count_ * walk_.sources : 0),
        shortcuts_(pass_.more.shortcut ? count_ * H_ : 0), from_(count_), to_(count_), lines_(count_) {
    for (int i = 0; i < cell_.vectors; ++i) grad_vectors_[i] = sums + back.places.vectors + i * H_;
  }

  void run() {
    const Timeline& timeline = walk_.timeline;
    for (int64_t r = 0; r < count_; ++r)
      for (int i = 0; i < cell_.states; ++i) {
        T* to = carry(r) + i * H_;
        if (pass_.grad_final[i])
          std::copy_n(pass_.grad_final[i] + column(r) * H_, H_, to);
        else
          std::fill_n(to, H_, T(0));
      }
    for (int64_t stop = slice_.steps(timeline), start; stop > 0; stop = start) {
      start = slice_.start_of_block(timeline, stop, kBlock);
      input_lines_.clear(), grad_x_lines_.clear();
      for (int64_t step = stop - 1; step >= start; --step) retreat(step);
      project_back();
      if (back_.adds) add_weights();
    }
    for (int64_t r = 0; r < count_; ++r)
      for (int i = 0; i < cell_.states; ++i)
        if (pass_.grad_initial[i]) std::copy_n(carry(r) + i * H_, H_, pass_.grad_initial[i] + column(r) * H_);
    if (pass_.grad_x.data) clear_padding(timeline, slice_, pass_.grad_x, pass_.input);
  }

 private:
  static constexpr int64_t kBlock = 2 * kEntriesTogether;  // entries whose gradients leave the walk together

  int64_t column(int64_t r) const { return walk_.timeline.column(slice_.first + r); }
  T* carry(int64_t r) const { return carries_.get() + r * walk_.states; }
  T* kept(int64_t r) const { return kept_.get() + r * walk_.states; }
  T* middle(int64_t r) const { return middles_.get() + r * H_; }
  const T* saved(int64_t r) const { return gradients_.saved[lines_[r]]; }
  const T* saved(int64_t r, int64_t level) const { return saved(r) + level * walk_.layout.level; }

  void retreat(int64_t step) {
    const int64_t running = slice_.running(walk_.timeline, step);
    for (int64_t r = 0; r < running; ++r) {
      const int64_t time = walk_.timeline.time(step, slice_.first + r, pass_.reverse);
      lines_[r] = back_.adds ? int64_t(input_lines_.size()) : walk_.timeline.entry(step, slice_.first + r);
      gradients_.begin(lines_[r], pass_.x.at(time, column(r)), saved_at(step, r));
      if (pass_.grad_output.data) add(H_, pass_.grad_output.at(time, column(r)), carry(r));
      if (walk_.zones) keep_back(r, time);
      input_lines_.push_back(gradients_.input_product(lines_[r]));
      if (pass_.grad_x.data) grad_x_lines_.push_back(pass_.grad_x.at(time, column(r)));
    }
    for (int64_t level = walk_.levels - 1; level >= 0; --level) {
      const bool at_once = cell_.middle != Middle::product;
      for (int64_t r = 0; r < running; ++r) {
        end_row_back(level, r);
        if (at_once) begin_row_back(level, r);
        if (cell_.products == 0 && step > 0) fetch(saved_at(step - 1, r), walk_.layout.size);
      }
      if (!at_once) {
        multiply_second_back(level, running);
        for (int64_t r = 0; r < running; ++r) begin_row_back(level, r);
      }
      const bool asks = level == 0 && step > 0;
      multiply_first_back(level, running, asks ? saved_lines(pass_, slice_, step - 1, walk_.layout.size) : Ahead<T>{});
      if (walk_.has_shortcut(level)) shortcut_back(level, running);
    }
    for (int64_t r = 0; r < running; ++r) {
      if (pass_.more.shortcut) add(H_, shortcuts_.get() + r * H_, carry(r));
      if (walk_.zones) add(walk_.states, kept(r), carry(r));
    }
  }

  const T* saved_at(int64_t step, int64_t r) const {
    return pass_.saved + walk_.timeline.entry(step, slice_.first + r) * walk_.layout.size;
  }

  // A row's step from its end back to its middle; from there to its first product.
  void end_row_back(int64_t level, int64_t r) {
    const bool after_norm = cell_.middle == Middle::norm;
    rows_.last_back(row(level, r, after_norm ? middle(r) : gradients_.first_product(lines_[r], level)));
    if (walk_.norms_products) normalise_products_back(level, r, cell_.products, cell_.all_products());
    if (after_norm) normalise_middle_back(level, r);
  }

  void begin_row_back(int64_t level, int64_t r) {
    if (cell_.middle != Middle::none) rows_.first_back(row(level, r, gradients_.first_product(lines_[r], level)));
    if (walk_.norms_products) normalise_products_back(level, r, 0, cell_.products);
    if (walk_.norms_inputs && level == 0) normalise_inputs_back(r);
  }

  RowBack<T> row(int64_t level, int64_t r, T* grad_products) const {
    const T* line = saved(r, level);
    return {walk_.settings(column(r)), line, line + walk_.layout.prev, carry(r), gradients_.input(lines_[r], level), grad_products,
            middle(r), grad_vectors_};
  }

  void multiply_second_back(int64_t level, int64_t running) {
    for (int64_t r = 0; r < running; ++r) from_[r] = gradients_.second_product(lines_[r], level), to_[r] = middle(r);
    multiply(from_.data(), to_.data(), running, back_.weights.w_middle[level], Start::zero);
  }

  void multiply_first_back(int64_t level, int64_t running, Ahead<T> ahead) {
    if (cell_.products == 0) return;
    for (int64_t r = 0; r < running; ++r) {
      from_[r] = gradients_.first_product(lines_[r], level);
      to_[r] = pass_.mask ? sources_.get() + r * walk_.sources : carry(r);
    }
    const T* const no_bias = nullptr;
    multiply(from_.data(), to_.data(), running, back_.weights.w_hh[level], pass_.mask ? Start::zero : Start::out, no_bias, ahead);
    for (int64_t r = 0; pass_.mask && r < running; ++r)
      for (int i = 0; i < cell_.sources; ++i) {
        const T *mask = walk_.mask(column(r)), *prev = saved(r, level) + walk_.layout.prev + i * H_;
        add_masked(mask, to_[r] + i * H_, carry(r) + i * H_);
        multiply_elements(H_, prev, mask, gradients_.masked_state(lines_[r], level) + i * H_);
      }
  }

  void shortcut_back(int64_t level, int64_t running) {
    for (int64_t r = 0; r < running; ++r) from_[r] = gradients_.input(lines_[r], level), to_[r] = shortcuts_.get() + r * H_;
    multiply(from_.data(), to_.data(), running, back_.weights.shortcut, Start::zero);
    for (int64_t r = 0; pass_.mask && r < running; ++r) multiply_elements(H_, to_[r], walk_.mask(column(r)), to_[r]);
  }

  void normalise_products_back(int64_t level, int64_t r, int64_t first, int64_t last) {
    const SumPlaces::OfLevel& place = back_.places.levels[level];
    walk_.for_groups(first, last, [&](int64_t at, int64_t blocks, int64_t group) {
      T* to = gradients_.product(lines_[r], level) + at * H_;
      const T* grad = cell_.additive ? gradients_.input(lines_[r], level) + at * H_ : to;
      normalise_back(blocks * H_, grad, pass_.more.levels[level].gain + at * H_, saved(r, level) + walk_.layout.normed + at * H_,
                     saved(r)[walk_.layout.scale(level, group)], to, sums_ + place.gain + at * H_, sums_ + place.bias + at * H_);
    });
  }

  void normalise_middle_back(int64_t level, int64_t r) {
    const SumPlaces::OfLevel& place = back_.places.levels[level];
    normalise_back(H_, middle(r), pass_.more.levels[level].norm_weight, saved(r, level) + walk_.layout.middle,
                   saved(r)[walk_.layout.middle_scale(level)], middle(r), sums_ + place.norm_weight, sums_ + place.norm_bias);
  }

  void normalise_inputs_back(int64_t r) {
    const int64_t gain = back_.places.gain_ih, bias = back_.places.b_ih;
    walk_.for_groups(0, cell_.inputs, [&](int64_t at, int64_t blocks, int64_t group) {
      normalise_back(blocks * H_, gradients_.input(lines_[r], 0) + at * H_, pass_.more.gain_ih + at * H_,
                     saved(r) + walk_.layout.normed_inputs + at * H_, saved(r)[walk_.layout.scales + group],
                     gradients_.input_product(lines_[r]) + at * H_, sums_ + gain + at * H_, sums_ + bias + at * H_);
    });
  }

  void project_back() {
    if (!pass_.grad_x.data) return;
    const int64_t projected = cell_.projected() * H_, count = int64_t(input_lines_.size());
    for (int64_t i = 0; cell_.reads_x && i < count; ++i) std::copy_n(input_lines_[i] + projected, H_, grad_x_lines_[i]);
    multiply(input_lines_.data(), grad_x_lines_.data(), count, back_.weights.w_ih, cell_.reads_x ? Start::out : Start::zero);
  }

  void add_weights() {
    T* to = sums_ + back_.places.size;
    for (const WeightSum<T>& sum : weight_sums(pass_, own_)) {
      sum.add(int64_t(input_lines_.size()), 0, sum.lines, to, to + sum.lines * sum.width);
      to += sum.size();
    }
  }

  // Splits the gradient of the state after zoneout: what goes to the old value, and what to the step.
  void keep_back(int64_t r, int64_t time) {
    for (int i = 0; i < cell_.states; ++i) {
      const T rate = pass_.zone_rates[i];
      T *to_old = kept(r) + i * H_, *grad = carry(r) + i * H_;
      const bool* zone = rate > 0 ? walk_.zone(i, time, column(r)) : nullptr;
      const int64_t H = H_;
      for_row<T>(H, [=](auto lanes, int64_t u) {
        const Vec<T> all = lanes.load(grad + u), old = zone ? choose(zone + u, H - u, all, Vec<T>{}) : rate * all;
        lanes.store(to_old + u, old);
        lanes.store(grad + u, all - old);
      });
    }
  }

  static void add(int64_t count, const T* from, T* to) {
    for (int64_t i = 0; i < count; ++i) to[i] += from[i];
  }
  void add_masked(const T* mask, const T* from, T* to) const {
    for (int64_t i = 0; i < H_; ++i) to[i] += mask[i] * from[i];
  }

  const CellShape& cell_;
  const RowFunctions<T>& rows_;
  const WalkBack<T>& back_;
  const Walk<T>& walk_;
  const Backward<T>& pass_;
  const Slice slice_;
  T* const sums_;
  const int64_t count_, H_;
  WalkGradients<T> own_;
  WalkGradients<T>& gradients_;  // its own, for the entries of a block; or those of all entries, by their number
  const Buffer<T> carries_, kept_, middles_, sources_, shortcuts_;
  T* grad_vectors_[kMostVectors];
  std::vector<const T*> from_, input_lines_;
  std::vector<T*> to_, grad_x_lines_;
  std::vector<int64_t> lines_;  // of the rows at hand
};

// Adds up what the slices of a pass summed each for itself.
template <class T>
void gather_sums(const WalkBack<T>& back) {
  const Walk<T>& walk = back.walk;
  const SumPlaces& places = back.places;
  const More<T*>& more = back.pass.grad_more;
  const int64_t H = walk.H, products = walk.cell.all_products() * H;
  const auto gather = [&](T* to, int64_t place, int64_t count) {
    if (!to) return;
    std::fill_n(to, count, T(0));
    for (const std::vector<T>& sums : back.slice_sums)
      for (int64_t i = 0; i < count; ++i) to[i] += sums[place + i];
  };
  if (walk.norms_inputs) {
    gather(more.gain_ih, places.gain_ih, walk.cell.inputs * H);
    gather(back.pass.grad_b_ih, places.b_ih, walk.cell.projected() * H);
  }
  for (int i = 0; i < walk.cell.vectors; ++i) gather(more.vectors[i], places.vectors + i * H, H);
  for (int64_t k = 0; k < walk.levels; ++k) {
    const Level<T*>& level = more.levels[k];
    if (walk.norms_products) {
      gather(level.gain, places.levels[k].gain, products);
      gather(level.b_hh, places.levels[k].bias, products);
    }
    if (walk.cell.middle == Middle::norm) {
      gather(level.norm_weight, places.levels[k].norm_weight, H);
      gather(level.norm_bias, places.levels[k].norm_bias, H);
    }
  }
  int64_t place = places.size;
  for (const WeightSum<T>& sum : back.sums) {
    if (!back.adds) break;
    gather(sum.out, place, sum.lines * sum.width);
    gather(sum.bias, place + sum.lines * sum.width, sum.lines);
    place += sum.size();
  }
}

// Part `part` of `parts` of every weight's gradient, from the gate gradients of all entries.
template <class T>
void sum_weights(const WalkBack<T>& back, int64_t part, int64_t parts) {
  for (const WeightSum<T>& sum : back.sums) {
    const int64_t first = border(part, parts, sum.lines), last = border(part + 1, parts, sum.lines);
    std::fill(sum.out + first * sum.width, sum.out + last * sum.width, T(0));
    if (sum.bias) std::fill(sum.bias + first, sum.bias + last, T(0));
    sum.add(back.walk.timeline.entries(), first, last, sum.out, sum.bias);
  }
}

template <class T>
void walk_backward(const WalkedCell<T>& cell, const std::vector<Backward<T>>& passes, const Parallel& parallel) {
  std::deque<WalkBack<T>> backs;
  for (const auto& pass : passes) backs.emplace_back(cell.shape, pass);
  const std::vector<Job> jobs = slice_passes(passes, parallel.threads);
  std::vector<T*> sums;
  for (const Job& job : jobs) sums.push_back(backs[job.pass].begin_slice());
  parallel.run(int64_t(jobs.size()), [&](int64_t i) { BackwardSlice<T>(cell, backs[jobs[i].pass], jobs[i].slice, sums[i]).run(); });
  const int64_t parts = (parallel.threads + int64_t(passes.size()) - 1) / int64_t(passes.size());
  parallel.run(parts * int64_t(passes.size()), [&](int64_t i) {
    const WalkBack<T>& back = backs[i / parts];
    if (i % parts == 0) gather_sums(back);
    if (!back.adds) sum_weights(back, i % parts, parts);
  });
}

}  // namespace deep_rnn

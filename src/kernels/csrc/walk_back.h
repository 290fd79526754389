// Backward for every cell and option: the walk from the last step to the first, then one large product a weight.
#pragma once

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

// What the walk back leaves behind for the gradients of the weights, one line an entry.
template <class T>
struct WalkGradients {
  const Walk<T> walk;
  const Backward<T>& pass;
  Packed<T> w_ih, shortcut;  // as they are: [projected * H, I], [inputs * H, H]
  std::vector<Packed<T>> w_hh, w_middle;
  int64_t input_line, product_line, masked_line;
  Buffer<T> inputs;         // [entries, levels, inputs * H]
  Buffer<T> input_products;  // [entries, inputs * H]: before their layer norm, where the recurrent product still needs the others
  Buffer<T> products;       // [entries, levels, all_products * H], where they are not those of the inputs
  Buffer<T> masked;         // [entries, levels, sources], if there is a mask: the state as the recurrent product saw it
  std::vector<const T*> x;  // [entries]: lines of x
  SumPlaces places;

  WalkGradients(const CellShape& cell, const Backward<T>& pass)
      : walk(cell, pass),
        pass(pass),
        w_ih(as_it_is(pass.grad_x.data ? pass.w_ih : nullptr, cell.projected() * walk.H, pass.input)),
        shortcut(as_it_is(pass.more.shortcut, cell.inputs * walk.H, walk.H)),
        input_line(cell.inputs * walk.H),
        product_line(walk.products_apart() ? cell.all_products() * walk.H : 0),
        masked_line(pass.mask && cell.products ? walk.sources : 0),
        inputs(walk.timeline.entries() * walk.levels * input_line),
        input_products(walk.norms_inputs && !walk.norms_products ? walk.timeline.entries() * input_line : 0),
        products(walk.timeline.entries() * walk.levels * product_line),
        masked(walk.timeline.entries() * walk.levels * masked_line),
        x(walk.timeline.entries()),
        places(walk) {
    for (const Level<const T*>& level : pass.more.levels) {
      w_hh.push_back(as_it_is(level.w_hh, cell.products * walk.H, walk.sources));
      w_middle.push_back(as_it_is(level.w_middle, cell.middle_products * walk.H, walk.H));
    }
  }

  static Packed<T> as_it_is(const T* w, int64_t depth, int64_t width) {
    Packed<T> packed(w ? depth : 0, width);
    for (int64_t tile = 0; w && tile < packed.tiles(); ++tile) packed.pack_tile(tile, w, width, 1);
    return packed;
  }

  T* input(int64_t entry, int64_t level) const { return inputs.get() + (entry * walk.levels + level) * input_line; }
  // The gradient of W_ih x.
  T* input_product(int64_t entry) const {
    return walk.norms_inputs && !walk.norms_products ? input_products.get() + entry * input_line : input(entry, 0);
  }
  T* product(int64_t entry, int64_t level) const { return products.get() + (entry * walk.levels + level) * product_line; }
  T* masked_state(int64_t entry, int64_t level) const { return masked.get() + (entry * walk.levels + level) * masked_line; }

  // The gradient of the first product; of the second.
  T* first_product(int64_t entry, int64_t level) const { return walk.products_apart() ? product(entry, level) : input(entry, level); }
  T* second_product(int64_t entry, int64_t level) const {
    return walk.norms_products ? product(entry, level) + walk.cell.products * walk.H : input(entry, level) + walk.cell.middle_at() * walk.H;
  }
};

template <class T>
class BackwardSlice {
 public:
  BackwardSlice(const WalkedCell<T>& cell, WalkGradients<T>& gradients, Slice slice, T* sums)
      : cell_(cell.shape), rows_(cell.rows), walk_(gradients.walk), pass_(gradients.pass), gradients_(gradients), slice_(slice),
        sums_(sums), count_(slice.rows()), H_(walk_.H), carries_(count_ * walk_.states),
        kept_(walk_.zones ? count_ * walk_.states : 0), middles_(cell_.middle != Middle::none ? count_ * H_ : 0),
        sources_(pass_.mask ? count_ * walk_.sources : 0), shortcuts_(pass_.more.shortcut ? count_ * H_ : 0), from_(count_),
        to_(count_), entries_(count_) {
    for (int i = 0; i < cell_.vectors; ++i) grad_vectors_[i] = sums + gradients.places.vectors + i * H_;
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
    const int64_t together = steps_together(count_);
    for (int64_t stop = slice_.steps(timeline); stop > 0; stop = std::max<int64_t>(0, stop - together)) {
      input_lines_.clear(), grad_x_lines_.clear();
      for (int64_t step = stop - 1; step >= std::max<int64_t>(0, stop - together); --step) retreat(step);
      project_back();
    }
    for (int64_t r = 0; r < count_; ++r) {
      for (int i = 0; i < cell_.states; ++i)
        if (pass_.grad_initial[i]) std::copy_n(carry(r) + i * H_, H_, pass_.grad_initial[i] + column(r) * H_);
      for (int64_t t = timeline.length(slice_.first + r); pass_.grad_x.data && t < timeline.steps(); ++t)
        std::fill_n(pass_.grad_x.at(t, column(r)), pass_.input, T(0));
    }
  }

 private:
  int64_t column(int64_t r) const { return walk_.timeline.column(slice_.first + r); }
  T* carry(int64_t r) const { return carries_.get() + r * walk_.states; }
  T* kept(int64_t r) const { return kept_.get() + r * walk_.states; }
  T* middle(int64_t r) const { return middles_.get() + r * H_; }
  const T* line(int64_t r) const { return pass_.saved + entries_[r] * walk_.layout.size; }
  const T* level_line(int64_t r, int64_t level) const { return line(r) + level * walk_.layout.level; }

  void retreat(int64_t step) {
    const int64_t running = slice_.running(walk_.timeline, step);
    for (int64_t r = 0; r < running; ++r) {
      const int64_t row = slice_.first + r, time = walk_.timeline.time(step, row, pass_.reverse), entry = walk_.timeline.entry(time, row);
      entries_[r] = entry;
      if (pass_.grad_output.data) add(H_, pass_.grad_output.at(time, column(r)), carry(r));
      if (walk_.zones) keep_back(r, time);
      gradients_.x[entry] = pass_.x.at(time, column(r));
      input_lines_.push_back(gradients_.input_product(entry));
      if (pass_.grad_x.data) grad_x_lines_.push_back(pass_.grad_x.at(time, column(r)));
    }
    for (int64_t level = walk_.levels - 1; level >= 0; --level) {
      for_rows(rows_.last_back, level, running);
      if (cell_.middle != Middle::none) {
        cell_.middle == Middle::norm ? normalise_middle_back(level, running) : multiply_second_back(level, running);
        for_rows(rows_.first_back, level, running);
      }
      multiply_first_back(level, running);
      if (walk_.has_shortcut(level)) shortcut_back(level, running);
    }
    for (int64_t r = 0; r < running; ++r) {
      if (pass_.more.shortcut) add(H_, shortcuts_.get() + r * H_, carry(r));
      if (walk_.zones) add(walk_.states, kept(r), carry(r));
    }
    if (walk_.norms_inputs) normalise_inputs_back(running);
  }

  void for_rows(void (*function)(const RowBack<T>&), int64_t level, int64_t running) {
    for (int64_t r = 0; r < running; ++r) {
      const T* saved = level_line(r, level);
      // The gradient of a layer norm's result goes where that of the first half is awaited.
      const bool to_norm = cell_.middle == Middle::norm && function == rows_.last_back;
      function({walk_.settings(column(r)), saved, saved + walk_.layout.prev, carry(r), gradients_.input(entries_[r], level),
                to_norm ? middle(r) : gradients_.first_product(entries_[r], level), middle(r), grad_vectors_});
    }
  }

  void multiply_second_back(int64_t level, int64_t running) {
    if (walk_.norms_products) normalise_products_back(level, running, cell_.products, cell_.all_products());
    for (int64_t r = 0; r < running; ++r) from_[r] = gradients_.second_product(entries_[r], level), to_[r] = middle(r);
    multiply(from_.data(), to_.data(), running, gradients_.w_middle[level], Start::zero);
  }

  void multiply_first_back(int64_t level, int64_t running) {
    if (cell_.products == 0) return;
    if (walk_.norms_products) normalise_products_back(level, running, 0, cell_.products);
    for (int64_t r = 0; r < running; ++r) {
      from_[r] = gradients_.first_product(entries_[r], level);
      to_[r] = pass_.mask ? sources_.get() + r * walk_.sources : carry(r);
    }
    multiply(from_.data(), to_.data(), running, gradients_.w_hh[level], pass_.mask ? Start::zero : Start::out);
    for (int64_t r = 0; pass_.mask && r < running; ++r)
      for (int i = 0; i < cell_.sources; ++i) {
        const T *mask = walk_.mask(column(r)), *prev = level_line(r, level) + walk_.layout.prev + i * H_;
        add_masked(mask, to_[r] + i * H_, carry(r) + i * H_);
        multiply_elements(H_, prev, mask, gradients_.masked_state(entries_[r], level) + i * H_);
      }
  }

  void shortcut_back(int64_t level, int64_t running) {
    for (int64_t r = 0; r < running; ++r) from_[r] = gradients_.input(entries_[r], level), to_[r] = shortcuts_.get() + r * H_;
    multiply(from_.data(), to_.data(), running, gradients_.shortcut, Start::zero);
    for (int64_t r = 0; pass_.mask && r < running; ++r) multiply_elements(H_, to_[r], walk_.mask(column(r)), to_[r]);
  }

  void normalise_products_back(int64_t level, int64_t running, int64_t first, int64_t last) {
    const SumPlaces::OfLevel& place = gradients_.places.levels[level];
    for (int64_t r = 0; r < running; ++r)
      walk_.for_groups(first, last, [&](int64_t at, int64_t blocks, int64_t group) {
        T* to = gradients_.product(entries_[r], level) + at * H_;
        const T* grad = cell_.additive ? gradients_.input(entries_[r], level) + at * H_ : to;
        normalise_back(blocks * H_, grad, pass_.more.levels[level].gain + at * H_, level_line(r, level) + walk_.layout.normed + at * H_,
                       line(r)[walk_.layout.scale(level, group)], to, sums_ + place.gain + at * H_, sums_ + place.bias + at * H_);
      });
  }

  void normalise_middle_back(int64_t level, int64_t running) {
    const SumPlaces::OfLevel& place = gradients_.places.levels[level];
    for (int64_t r = 0; r < running; ++r)
      normalise_back(H_, middle(r), pass_.more.levels[level].norm_weight, level_line(r, level) + walk_.layout.middle,
                     line(r)[walk_.layout.middle_scale(level)], middle(r), sums_ + place.norm_weight, sums_ + place.norm_bias);
  }

  void normalise_inputs_back(int64_t running) {
    for (int64_t r = 0; r < running; ++r)
      walk_.for_groups(0, cell_.inputs, [&](int64_t at, int64_t blocks, int64_t group) {
        T* grad = gradients_.input(entries_[r], 0) + at * H_;
        normalise_back(blocks * H_, grad, pass_.more.gain_ih + at * H_, line(r) + walk_.layout.normed_inputs + at * H_,
                       line(r)[walk_.layout.scales + group], gradients_.input_product(entries_[r]) + at * H_, sums_ + gradients_.places.gain_ih + at * H_,
                       sums_ + gradients_.places.b_ih + at * H_);
      });
  }

  void project_back() {
    if (!pass_.grad_x.data) return;
    const int64_t projected = cell_.projected() * H_, count = int64_t(input_lines_.size());
    for (int64_t i = 0; cell_.reads_x && i < count; ++i) std::copy_n(input_lines_[i] + projected, H_, grad_x_lines_[i]);
    multiply(input_lines_.data(), grad_x_lines_.data(), count, gradients_.w_ih, cell_.reads_x ? Start::out : Start::zero);
  }

  // Splits the gradient of the state after zoneout: what goes to the old value, and what to the step.
  void keep_back(int64_t r, int64_t time) {
    for (int i = 0; i < cell_.states; ++i) {
      const T rate = pass_.zone_rates[i];
      T *to_old = kept(r) + i * H_, *grad = carry(r) + i * H_;
      const bool* zone = rate > 0 ? walk_.zone(i, time, column(r)) : nullptr;
      if (zone)
        for (int64_t u = 0; u < H_; ++u) to_old[u] = zone[u] ? grad[u] : T(0), grad[u] = zone[u] ? T(0) : grad[u];
      else
        for (int64_t u = 0; u < H_; ++u) to_old[u] = rate * grad[u], grad[u] = (1 - rate) * grad[u];
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
  const Walk<T>& walk_;
  const Backward<T>& pass_;
  WalkGradients<T>& gradients_;
  const Slice slice_;
  T* const sums_;
  const int64_t count_, H_;
  const Buffer<T> carries_, kept_, middles_, sources_, shortcuts_;
  T* grad_vectors_[kMostVectors];
  std::vector<const T*> from_, input_lines_;
  std::vector<T*> to_, grad_x_lines_;
  std::vector<int64_t> entries_;
};

// A weight's gradient: the sum over entries of line a times line b.
template <class T>
struct WeightSum {
  const T* a;
  int64_t a_stride;
  const T* b;
  int64_t b_stride;
  const T* const* b_lines;  // instead of b
  int64_t lines, width;
  T *out, *bias;
};

template <class T>
std::vector<WeightSum<T>> weight_sums(const WalkGradients<T>& g) {
  const Walk<T>& walk = g.walk;
  const CellShape& cell = walk.cell;
  const Backward<T>& pass = g.pass;
  const int64_t H = walk.H, saved = walk.layout.size, inputs = walk.levels * g.input_line;
  std::vector<WeightSum<T>> sums;
  if (pass.grad_w_ih)
    sums.push_back({g.input_product(0), g.input_products.get() == g.input_product(0) ? g.input_line : inputs, nullptr, 0, g.x.data(), cell.projected() * H, pass.input, pass.grad_w_ih,
                    walk.norms_inputs ? nullptr : pass.grad_b_ih});
  const auto state = [&](WeightSum<T> sum, int64_t level) {  // with the state before a level as b
    sum.b = pass.mask ? g.masked_state(0, level) : pass.saved + level * walk.layout.level + walk.layout.prev;
    sum.b_stride = pass.mask ? walk.levels * g.masked_line : saved;
    sums.push_back(sum);
  };
  for (int64_t k = 0; k < walk.levels; ++k) {
    const Level<T*>& to = pass.grad_more.levels[k];
    T* const bias = walk.norms_products ? nullptr : to.b_hh;
    const int64_t first = walk.products_apart() ? walk.levels * g.product_line : inputs;
    const int64_t second = walk.norms_products ? walk.levels * g.product_line : inputs;
    if (to.w_hh) state({g.first_product(0, k), first, nullptr, 0, nullptr, cell.products * H, walk.sources, to.w_hh, bias}, k);
    if (to.w_middle)
      sums.push_back({g.second_product(0, k), second, pass.saved + k * walk.layout.level + walk.layout.middle, saved, nullptr,
                      cell.middle_products * H, H, to.w_middle, bias ? bias + cell.products * H : nullptr});
    if (walk.has_shortcut(k) && pass.grad_more.shortcut)
      state({g.input(0, k), inputs, nullptr, 0, nullptr, cell.inputs * H, H, pass.grad_more.shortcut, nullptr}, 0);
  }
  return sums;
}

// Part `part` of `parts` of every weight's gradient.
template <class T>
void sum_weights(const WalkGradients<T>& gradients, int64_t part, int64_t parts) {
  for (const WeightSum<T>& sum : weight_sums(gradients)) {
    const auto border = [&](int64_t i) { return i == parts ? sum.lines : sum.lines * i / parts / kTileRows * kTileRows; };
    outer_sum(
        gradients.walk.timeline.entries(), [&](int64_t k) { return sum.a + k * sum.a_stride; },
        [&](int64_t k) { return sum.b_lines ? sum.b_lines[k] : sum.b + k * sum.b_stride; }, border(part), border(part + 1), sum.width,
        sum.out, sum.bias);
  }
}

// Adds up what the slices of a pass summed each for itself.
template <class T>
void gather_sums(const WalkGradients<T>& gradients, const std::vector<const T*>& slices) {
  const Walk<T>& walk = gradients.walk;
  const SumPlaces& places = gradients.places;
  const More<T*>& more = gradients.pass.grad_more;
  const int64_t H = walk.H, products = walk.cell.all_products() * H;
  const auto gather = [&](T* to, int64_t place, int64_t count) {
    if (!to) return;
    std::fill_n(to, count, T(0));
    for (const T* sums : slices)
      for (int64_t i = 0; i < count; ++i) to[i] += sums[place + i];
  };
  if (walk.norms_inputs) {
    gather(more.gain_ih, places.gain_ih, walk.cell.inputs * H);
    gather(gradients.pass.grad_b_ih, places.b_ih, walk.cell.projected() * H);
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
}

template <class T>
void walk_backward(const WalkedCell<T>& cell, const std::vector<Backward<T>>& passes, const Parallel& parallel) {
  std::vector<WalkGradients<T>> gradients;
  gradients.reserve(passes.size());
  for (const auto& pass : passes) gradients.emplace_back(cell.shape, pass);
  const std::vector<Job> jobs = slice_passes(passes, parallel.threads);
  std::vector<std::vector<T>> sums;
  std::vector<std::vector<const T*>> of_pass(passes.size());
  for (const Job& job : jobs) {
    sums.emplace_back(gradients[job.pass].places.size);
    of_pass[job.pass].push_back(sums.back().data());
  }
  parallel.run(int64_t(jobs.size()), [&](int64_t i) {
    BackwardSlice<T>(cell, gradients[jobs[i].pass], jobs[i].slice, sums[i].data()).run();
  });
  const int64_t parts = (parallel.threads + int64_t(passes.size()) - 1) / int64_t(passes.size());
  parallel.run(parts * int64_t(passes.size()), [&](int64_t i) {
    if (i % parts == 0) gather_sums(gradients[i / parts], of_pass[i / parts]);
    sum_weights(gradients[i / parts], i % parts, parts);
  });
}

}  // namespace deep_rnn

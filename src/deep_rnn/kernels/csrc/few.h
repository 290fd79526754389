// Few rows: the members of a team share the units of every step, and not the rows. Of few lines in all, the weights are read as
// they lie, which one thread alone does as well.
//
// What a step costs is reading W_hh. Each member reads the part of it that its own units need, which may then stay in its own
// cache from step to step. All wait for each other once a step. What is saved for backward lies where forward.h puts it.
#pragma once

#include "backward.h"
#include "few_products.h"
#include "forward.h"

namespace deep_rnn {

// How many lines of `depth` must meet a weight for packing it to pay: fewer where it lies across cache lines as it is. (LSTM of
// 300 to 1024 units on two cores of a Zen 5 server: unpacked over packed 0.9 to 1.3 at 64 and more of 400, 512 and 1024, 0.8 to
// 1.2 below; 1.0 to 1.4 at 32 and more of 300 and 700, 0.7 to 1.1 below.)
template <class T>
constexpr int64_t least_packed(int64_t depth) {
  return depth % kLanes<T> ? 32 : 64;
}

// What both sweeps of a team know of its pass.
template <class T>
struct FewRows {
  const Timeline& timeline;
  const int64_t H, rows;
  const Slice all;
  const bool packs_inputs, packs;  // W_ih, W_hh; or they are read as they lie

  explicit FewRows(const Pass<T>& pass)
      : timeline(*pass.timeline), H(pass.hidden), rows(timeline.batch()), all{0, rows},
        packs_inputs(timeline.entries() >= least_packed<T>(pass.input)),
        packs(rows > 1 && timeline.entries() >= least_packed<T>(H)) {}

  int64_t steps() const { return all.steps(timeline); }
  // Row r of a field of [fields, rows, H].
  T* field(const Buffer<T>& buffer, int64_t i, int64_t r) const { return buffer.get() + (i * rows + r) * H; }
};

template <class Cell, class T>
class FewForward {
 public:
  explicit FewForward(const Forward<T>& pass)
      : pass_(pass), few_(pass), states_(Cell::states * few_.rows * few_.H), read_(2 * few_.rows * few_.H),
        gates_(std::max(kEntriesTogether, few_.rows) * Cell::inputs * few_.H),
        products_(Cell::additive ? 0 : few_.rows * Cell::products * few_.H) {}

  void run(const Member& member) const {
    const Share own = member.share(few_.H, kLanes<T>);
    const OwnLines<T> w_ih(pass_.w_ih, Cell::inputs, few_.H, pass_.input, own, few_.packs_inputs);
    const OwnLines<T> w_hh(pass_.w_hh, Cell::products, few_.H, few_.H, own, few_.packs);
    const Timeline& timeline = few_.timeline;
    for (int64_t r = 0; r < few_.rows; ++r) {
      const int64_t at = timeline.column(r) * few_.H + own.first;
      for (int i = 0; i < Cell::states; ++i) std::copy_n(pass_.initial[i] + at, own.size(), few_.field(states_, i, r) + own.first);
      show(0, r, own);
    }
    member.wait();
    for (int64_t start = 0, stop; start < few_.steps(); start = stop) {
      stop = few_.all.end_of_block(timeline, start, kEntriesTogether);
      project(start, stop, w_ih, own);
      for (int64_t step = start, first = 0; step < stop; first += few_.all.running(timeline, step++)) {
        advance(step, first, w_hh, own);
        member.wait();
      }
    }
    if (pass_.streams) end_of_streams();
    for (int64_t r = 0; r < few_.rows; ++r) {
      const int64_t column = timeline.column(r);
      for (int i = 0; i < Cell::states; ++i)
        std::copy_n(few_.field(states_, i, r) + own.first, own.size(), pass_.final[i] + column * few_.H + own.first);
    }
    Sequence<T> output = pass_.output;
    output.data += own.first;
    clear_padding(timeline, few_.all, output, own.size());
  }

 private:
  T* gates(int64_t line) const { return gates_.get() + line * Cell::inputs * few_.H; }

  // Lets the others read a row's h after so many steps; what they still read of the step before is kept.
  void show(int64_t steps, int64_t r, Share own) const {
    const T* h = few_.field(states_, 0, r) + own.first;
    T* to = few_.field(read_, steps % 2, r) + own.first;
    if (pass_.mask)
      multiply_elements(own.size(), h, pass_.mask + few_.timeline.column(r) * few_.H + own.first, to);
    else
      std::copy_n(h, own.size(), to);
  }

  // The gate inputs of some steps.
  void project(int64_t start, int64_t stop, const OwnLines<T>& w_ih, Share own) const {
    std::vector<const T*> inputs;
    std::vector<T*> lines;
    for (int64_t step = start; step < stop; ++step)
      for (int64_t r = 0; r < few_.all.running(few_.timeline, step); ++r) {
        inputs.push_back(pass_.x.at(few_.timeline.time(step, r, pass_.reverse), few_.timeline.column(r)));
        lines.push_back(gates(int64_t(lines.size())));
      }
    for (T* line : lines)
      for (int gate = 0; gate < Cell::inputs; ++gate)
        for (int64_t u = gate * few_.H + own.first; u < gate * few_.H + own.last; ++u)
          line[u] = (pass_.b_ih ? pass_.b_ih[u] : T(0)) + (Cell::additive && pass_.b_hh ? pass_.b_hh[u] : T(0));
    w_ih.multiply_add(inputs.data(), int64_t(inputs.size()), lines.data());
  }

  // One step of the rows that run; the first one's line is number `first`.
  void advance(int64_t step, int64_t first, const OwnLines<T>& w_hh, Share own) const {
    const int64_t H = few_.H, running = few_.all.running(few_.timeline, step);
    std::vector<const T*> h(running);
    std::vector<T*> to(running);
    for (int64_t r = 0; r < running; ++r) {
      h[r] = few_.field(read_, step % 2, r);
      to[r] = Cell::additive ? gates(first + r) : products_.get() + r * Cell::products * H;
      for (int gate = 0; !Cell::additive && gate < Cell::products; ++gate)
        for (int64_t u = gate * H + own.first; u < gate * H + own.last; ++u) to[r][u] = pass_.b_hh ? pass_.b_hh[u] : T(0);
    }
    w_hh.multiply_add(h.data(), running, to.data());
    for (int64_t r = 0; r < running; ++r) {
      T* state[Cell::states];
      for (int i = 0; i < Cell::states; ++i) state[i] = few_.field(states_, i, r) + own.first;
      const int64_t time = few_.timeline.time(step, r, pass_.reverse);
      T* keep = pass_.saved ? pass_.saved + few_.timeline.entry(step, r) * kSavedBlocks<Cell> * H + own.first : nullptr;
      step_row<Cell>(own.size(), H, gates(first + r) + own.first, to[r] + own.first, state,
                     pass_.output.at(time, few_.timeline.column(r)) + own.first, keep, pass_.streams && H % kLanes<T> == 0);
      show(step + 1, r, own);
    }
  }

  const Forward<T>& pass_;
  const FewRows<T> few_;
  const Buffer<T> states_, read_, gates_, products_;  // read_: what the recurrent product reads, at even steps and at odd ones
};

template <class Cell, class T>
class FewBackward {
 public:
  FewBackward(const Backward<T>& pass, GateGradients<Cell, T>& gradients)
      : pass_(pass), gradients_(gradients), few_(pass), carries_(Cell::states * few_.rows * few_.H),
        masked_(pass.mask ? few_.rows * few_.H : 0) {}

  void run(const Member& member) const {
    const Share own = member.share(few_.H, kLanes<T>);
    const OwnColumns<T> w_hh(pass_.w_hh, Cell::products * few_.H, few_.H, own, few_.packs);
    const Timeline& timeline = few_.timeline;
    for (int64_t r = 0; r < few_.rows; ++r)
      for (int i = 0; i < Cell::states; ++i) {
        T* to = few_.field(carries_, i, r) + own.first;
        if (pass_.grad_final[i])
          std::copy_n(pass_.grad_final[i] + timeline.column(r) * few_.H + own.first, own.size(), to);
        else
          std::fill_n(to, own.size(), T(0));
      }
    for (int64_t step = few_.steps() - 1; step >= 0; --step) retreat(step, w_hh, own, member);
    for (int64_t r = 0; r < few_.rows; ++r)
      for (int i = 0; i < Cell::states; ++i)
        if (pass_.grad_initial[i])
          std::copy_n(few_.field(carries_, i, r) + own.first, own.size(), pass_.grad_initial[i] + timeline.column(r) * few_.H + own.first);
    if (pass_.grad_x.data) project_back(member.share(pass_.input, kLanes<T>));
  }

 private:
  void retreat(int64_t step, const OwnColumns<T>& w_hh, Share own, const Member& member) const {
    const Timeline& timeline = few_.timeline;
    const int64_t H = few_.H, running = few_.all.running(timeline, step);
    std::vector<const T*> lines(running);
    std::vector<T*> to(running);
    for (int64_t r = 0; r < running; ++r) {
      const int64_t column = timeline.column(r), time = timeline.time(step, r, pass_.reverse), entry = timeline.entry(step, r);
      const T *saved = pass_.saved + entry * kSavedBlocks<Cell> * H, *h = saved + kActivations<Cell> * H;
      T* carry[Cell::states];
      for (int i = 0; i < Cell::states; ++i) carry[i] = few_.field(carries_, i, r) + own.first;
      step_row_back<Cell>(own.size(), H, saved + own.first,
                          pass_.grad_output.data ? pass_.grad_output.at(time, column) + own.first : nullptr, carry,
                          gradients_.input_line(entry) + own.first, gradients_.product_line(entry) + own.first);
      lines[r] = gradients_.product_line(entry);
      to[r] = few_.field(pass_.mask ? masked_ : carries_, 0, r);
      T* masked = gradients_.masked.get() + entry * H;
      if (member.number == 0) gradients_.x[entry] = pass_.x.at(time, column), gradients_.h[entry] = pass_.mask ? masked : h;
      if (!pass_.mask) continue;
      multiply_elements(own.size(), h + own.first, pass_.mask + column * H + own.first, masked + own.first);
      std::fill_n(to[r] + own.first, own.size(), T(0));
    }
    member.wait();
    w_hh.multiply_add(lines.data(), running, to.data());
    for (int64_t r = 0; pass_.mask && r < running; ++r) {
      const T* mask = pass_.mask + timeline.column(r) * H;
      for (int64_t u = own.first; u < own.last; ++u) few_.field(carries_, 0, r)[u] += mask[u] * to[r][u];
    }
  }

  // Columns of the gradient of x.
  void project_back(Share own) const {
    const Timeline& timeline = few_.timeline;
    const OwnColumns<T> w_ih(pass_.w_ih, Cell::inputs * few_.H, pass_.input, own, few_.packs_inputs);
    const T* lines[kEntriesTogether];
    T* to[kEntriesTogether];
    int64_t count = 0;
    const auto write = [&] { w_ih.multiply_add(lines, std::exchange(count, 0), to); };
    for (int64_t step = 0; step < timeline.steps(); ++step)
      for (int64_t r = 0; r < few_.rows; ++r) {
        const bool runs = step < timeline.length(r);
        T* grad_x = pass_.grad_x.at(runs ? timeline.time(step, r, pass_.reverse) : step, timeline.column(r));
        std::fill_n(grad_x + own.first, own.size(), T(0));
        if (!runs) continue;
        lines[count] = gradients_.input_line(timeline.entry(step, r)), to[count++] = grad_x;
        if (count == kEntriesTogether) write();
      }
    write();
  }

  const Backward<T>& pass_;
  GateGradients<Cell, T>& gradients_;
  const FewRows<T> few_;
  const Buffer<T> carries_, masked_;
};

template <class Cell, class T>
int64_t bytes_of_w_hh(const Pass<T>& pass) {
  return Cell::products * pass.hidden * pass.hidden * int64_t(sizeof(T));
}

// How many threads make a team for a pass; none where threads with rows of their own do better. Each member's part of W_hh must
// be worth the waiting.
//
// Time of threads with rows of their own over a team's, LSTM, forward + backward of 100 steps on two cores (Zen 5): with one
// row 1.4 at 64 and 128 units, 1.8 at 256; with two and four at 512 and 1024 1.2 to 1.5; with eight at 256 to 1024 1.1 to 1.2;
// but with four and eight at 128 0.9. GRU and RNN are alike by the bytes of W_hh. More than two threads were not measured.
template <class Cell, class T>
int team_of(const Pass<T>& pass, const Parallel& parallel) {
  const int64_t rows = pass.timeline->batch(), least = rows == 1 ? 1 << 14 : 1 << 18;
  const int64_t most = std::min(bytes_of_w_hh<Cell>(pass) / least, whole_vectors<T>(pass.hidden));
  return pass.w_ih && rows <= 8 ? int(std::clamp<int64_t>(most, 1, parallel.threads)) : 0;
}

// Whether teams, one pass after the other, do better: by sharing the weights; or, even if of one thread, by reading them as they lie
// where threads with rows of their own would pack them for a few lines.
//
// Time of the latter over the former, on the same cores: 1.0 to 1.6 at 1 to 16 lines and 8 to 128 units, 0.8 to 1.0 at 32; both
// directions of 400 to 1024 units 1.1 to 3.1 below 64 lines, of 300 and less, or packed, 0.7 to 1.2; on one thread 1.2 to 4.5 at 1 to
// 10 lines of 400 and 1024 units.
template <class Cell, class T, template <class> class PassType>
bool are_few(const std::vector<PassType<T>>& passes, const Parallel& parallel) {
  const Pass<T>& pass = passes[0];
  const int64_t entries = pass.timeline->entries();
  const int team = team_of<Cell, T>(pass, parallel);
  const int64_t worth_packing = bytes_of_w_hh<Cell>(pass) > 2 * kCacheBytes ? least_packed<T>(pass.hidden) : 20;
  return team > int64_t(passes.size()) || (team > 0 && entries > 0 && entries < worth_packing);
}

// Calls f(pass, team) for every pass, team(job) being job(member) for all members at once. Teams of one thread work side by side,
// larger ones one after the other.
template <class Cell, class T, template <class> class PassType, class F>
void for_each_team(const std::vector<PassType<T>>& passes, const Parallel& parallel, F f) {
  const int most = team_of<Cell, T>(passes[0], parallel);
  const auto alone = [](const auto& job) {
    Barrier barrier;
    job(Member{0, 1, barrier});
  };
  if (most == 1) return parallel.run(int64_t(passes.size()), [&](int64_t i) { f(passes[i], alone); });
  const auto together = [&](const auto& job) {
    Barrier barrier;
    parallel.together(most, [&](int number, int members) { job(Member{number, members, barrier}); });
  };
  for (const auto& pass : passes) f(pass, together);
}

template <class Cell, class T>
void forward_few(const Layers<Forward<T>>& layers, const Parallel& parallel) {
  for (const auto& passes : layers)
    for_each_team<Cell>(passes, parallel, [](const Forward<T>& pass, const auto& team) {
      const FewForward<Cell, T> forward(pass);
      team([&](const Member& member) { forward.run(member); });
    });
}

template <class Cell, class T>
void backward_few(const Layers<Backward<T>>& layers, const Parallel& parallel) {
  for (auto passes = layers.rbegin(); passes != layers.rend(); ++passes)
    for_each_team<Cell>(*passes, parallel, [&](const Backward<T>& pass, const auto& team) {
      GateGradients<Cell, T> gradients(pass, pass.timeline->entries());
      const FewBackward<Cell, T> backward(pass, gradients);
      team([&](const Member& member) { backward.run(member); });
      parallel.run(parallel.threads, [&](int64_t part) { weight_gradients<Cell>(pass, gradients, part, parallel.threads); });
    });
}

}  // namespace deep_rnn

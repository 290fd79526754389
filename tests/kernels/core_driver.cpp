// Runs the kernel core alone, on random shapes, against equations written out plainly. Built by test_fused_core.py under
// the sanitizers; every array is a heap block of its own, so that a read outside of it is seen.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>

#include "parameters.h"
#include "registry.h"

using namespace deep_rnn;
using Array = std::vector<double>;

std::mt19937 random_bits(1);
int64_t uniform(int64_t first, int64_t last) { return std::uniform_int_distribution<int64_t>(first, last)(random_bits); }

Array normal(int64_t size) {
  std::normal_distribution<double> draw(0, 0.5);
  Array values(size);
  for (double& value : values) value = draw(random_bits);
  return values;
}

template <class T>
std::vector<T> as(const Array& values) {
  return {values.begin(), values.end()};
}

double sigmoid_of(double x) { return 1 / (1 + std::exp(-x)); }

using Parameters = std::map<std::string, Array>;

// A cell under test: its equations for one row, the options it is drawn with, and the constants in its equations.
struct Equations {
  const Parameters& parameters;
  const int64_t H;
  const double* mask;  // [H] each; ones where there is none
  const double* drop;
  const std::vector<double>& constants;
  Array x;                    // gate inputs [inputs * H]
  std::vector<Array> state;   // before the step
  std::vector<Array> next;

  double in(int block, int64_t u) const { return x[block * H + u]; }
  double weight(const char* name, int64_t u) const { return parameters.at(name)[u]; }

  void step(const std::string& cell) {
    next = state;
    Array &h = next[0], old = state[0];
    for (int64_t u = 0; u < H; ++u) {
      const double m = mask[u], d = drop[u];
      if (cell == "indrnn_tanh") h[u] = std::tanh(in(0, u) + weight("weight_hh", u) * old[u] * m) * d;
      if (cell == "indrnn_relu") h[u] = std::max(0., in(0, u) + weight("weight_hh", u) * old[u] * m) * d;
      if (cell == "sru" || cell == "sru_same_width") {
        const double c = state[1][u], f = sigmoid_of(in(0, u) + weight("weight_cf", u) * c * m);
        const double r = sigmoid_of(in(1, u) + weight("weight_cr", u) * c * m);
        next[1][u] = f * c + (1 - f) * in(2, u) * d;
        h[u] = r * next[1][u] + (1 - r) * in(3, u);
      }
      if (cell.starts_with("fo_pool")) {
        const int ahead = int(state.size()) - 2;
        double now[3];
        for (int i = 0; i < 3; ++i) now[i] = in(i, u) + (ahead ? state[2 + i][u] : 0);
        for (int i = 0; i < ahead; ++i) next[2 + i][u] = in(3 + i, u) + (i + 3 < ahead ? state[5 + i][u] : 0);
        const double f = sigmoid_of(now[1]);
        next[1][u] = f * state[1][u] + (1 - f) * std::tanh(now[0]) * d;
        h[u] = sigmoid_of(now[2]) * next[1][u];
      }
      const auto above = [&](double n) { return !cell.ends_with("positive") ? n : n >= 0 ? n + 0.5 : sigmoid_of(n); };
      if (cell.starts_with("mingru")) {
        const double z = sigmoid_of(in(0, u));
        h[u] = (1 - z) * old[u] + z * above(in(1, u)) * d;
      }
      if (cell.starts_with("minlstm")) {
        const double f = sigmoid_of(in(0, u)), i = sigmoid_of(in(1, u));
        h[u] = (f * old[u] + i * above(in(2, u)) * d) / (f + i);
      }
    }
    if (cell.starts_with("rnn") || cell == "lstm" || cell == "gru") torch_step(cell);
  }

  void torch_step(const std::string& cell) {
    const Array p = products("weight_hh", "bias_hh", 0, int64_t(x.size()), state[0]);
    for (int64_t u = 0; u < H; ++u) {
      const auto both = [&](int block) { return in(block, u) + p[block * H + u]; };
      const double d = drop[u];
      if (cell == "rnn_tanh") next[0][u] = std::tanh(both(0)) * d;
      if (cell == "rnn_relu") next[0][u] = std::max(0., both(0)) * d;
      if (cell == "gru") {
        const double r = sigmoid_of(both(0)), z = sigmoid_of(both(1)), n = std::tanh(in(2, u) + r * p[2 * H + u]);
        next[0][u] = (1 - z) * n * d + z * state[0][u];
      }
      if (cell == "lstm") {
        next[1][u] = sigmoid_of(both(1)) * state[1][u] + sigmoid_of(both(0)) * std::tanh(both(2)) * d;
        next[0][u] = sigmoid_of(both(3)) * std::tanh(next[1][u]);
      }
    }
  }

  // Rows of W h + b, h through the mask.
  Array products(const std::string& matrix, const std::string& bias, int64_t first, int64_t last, const Array& h) const {
    const Array& w = parameters.at(matrix);
    Array out(last - first);
    for (int64_t i = first; i < last; ++i) {
      out[i - first] = parameters.count(bias) ? parameters.at(bias)[i] : 0;
      for (int64_t k = 0; k < H; ++k) out[i - first] += w[i * H + k] * h[k] * mask[k];
    }
    return out;
  }
};

struct Drawn {
  const char* cell;
  std::vector<std::string> names;
};

const Drawn kCells[] = {
    {"rnn_tanh", {"weight_ih", "weight_hh", "bias_ih", "bias_hh"}},
    {"rnn_relu", {"weight_ih", "weight_hh", "bias_ih", "bias_hh"}},
    {"lstm", {"weight_ih", "weight_hh", "bias_ih", "bias_hh"}},
    {"gru", {"weight_ih", "weight_hh", "bias_ih", "bias_hh"}},
    {"indrnn_tanh", {"weight_ih", "bias_ih", "weight_hh"}},
    {"indrnn_relu", {"weight_ih", "bias_ih", "weight_hh"}},
    {"sru", {"weight_ih", "bias_ih", "weight_cf", "weight_cr"}},
    {"sru_same_width", {"weight_ih", "bias_ih", "weight_cf", "weight_cr"}},
    {"fo_pool", {"weight_ih", "bias_ih"}},
    {"fo_pool_2", {"weight_ih", "bias_ih"}},
    {"fo_pool_3", {"weight_ih", "bias_ih"}},
    {"mingru", {"weight_ih", "bias_ih"}},
    {"mingru_positive", {"weight_ih", "bias_ih"}},
    {"minlstm", {"weight_ih", "bias_ih"}},
    {"minlstm_positive", {"weight_ih", "bias_ih"}},
};

struct Problem {
  std::string cell;
  std::vector<std::string> names;
  CellShape shape;
  int64_t T, B, I, H;
  bool reverse, masked, dropped;
  std::vector<int64_t> lengths;
  Parameters parameters;
  Array x, mask, drop, grad_output;
  std::vector<double> zoneout, constants;
  std::vector<std::unique_ptr<bool[]>> zones;  // null: in expectation
  std::vector<Array> initial, grad_final;

  Problem() {
    const Drawn& drawn = kCells[uniform(0, std::size(kCells) - 1)];
    cell = drawn.cell, names = drawn.names, shape = find_cell<double>(drawn.cell)->shape;
    T = uniform(0, 6), B = uniform(0, 40), H = uniform(1, 60), I = shape.reads_x ? H : uniform(1, 60);
    reverse = uniform(0, 1), masked = uniform(0, 1), dropped = uniform(0, 1);
    for (int64_t b = 0; b < B; ++b) lengths.push_back(uniform(0, T));
    for (const std::string& name : names) {
      int64_t size = 1;
      for (int64_t n : parameter_shape(shape, ParameterName(name), I, H)) size *= n;
      parameters[name] = normal(size);
    }
    x = normal(T * B * I), grad_output = normal(T * B * H);
    mask = masked ? normal(B * H) : Array(B * H, 1.), drop = dropped ? normal(B * H) : Array(B * H, 1.);
    const bool zoned = uniform(0, 1), in_expectation = uniform(0, 1);
    for (int i = 0; i < shape.states; ++i) {
      initial.push_back(normal(B * H)), grad_final.push_back(normal(B * H));
      zoneout.push_back(zoned && uniform(0, 1) ? 0.3 : 0.);
      zones.emplace_back(zoneout[i] > 0 && !in_expectation ? new bool[T * B * H] : nullptr);
      for (int64_t k = 0; zones[i] && k < T * B * H; ++k) zones[i][k] = uniform(0, 2) == 0;
    }
  }

  // A quotient that straddles a kink is off.
  bool has_kinks() const { return cell.ends_with("relu") || cell.ends_with("positive"); }

  // The scalar whose gradient the core computes: sum of output * grad_output and of last state * grad_final.
  double loss() const {
    double total = 0;
    const Array &w = parameters.at("weight_ih"), &bias = parameters.at("bias_ih");
    for (int64_t b = 0; b < B; ++b) {
      Equations row{parameters, H, &mask[b * H], &drop[b * H], constants, Array(shape.inputs * H), {}, {}};
      for (int i = 0; i < shape.states; ++i) row.state.emplace_back(&initial[i][b * H], &initial[i][b * H] + H);
      for (int64_t step = 0; step < lengths[b]; ++step) {
        const int64_t t = reverse ? lengths[b] - 1 - step : step;
        const double* input = &x[(t * B + b) * I];
        for (int64_t i = 0; i < shape.inputs * H; ++i) {
          if (i >= shape.projected() * H) {
            row.x[i] = input[i - shape.projected() * H];
            continue;
          }
          row.x[i] = bias[i];
          for (int64_t k = 0; k < I; ++k) row.x[i] += w[i * I + k] * input[k];
        }
        row.step(cell);
        for (int i = 0; i < shape.states; ++i)
          for (int64_t u = 0; u < H; ++u) {
            const double kept = zones[i] ? zones[i][(t * B + b) * H + u] : zoneout[i];
            row.state[i][u] = kept * row.state[i][u] + (1 - kept) * row.next[i][u];
          }
        for (int64_t u = 0; u < H; ++u) total += row.state[0][u] * grad_output[(t * B + b) * H + u];
      }
      for (int i = 0; i < shape.states; ++i)
        for (int64_t u = 0; u < H; ++u) total += row.state[i][u] * grad_final[i][b * H + u];
    }
    return total;
  }
};

const Parallel threads{3, [](int64_t count, const std::function<void(int64_t)>& job) {
                         std::vector<std::thread> running;
                         for (int64_t i = 0; i < count; ++i) running.emplace_back(job, i);
                         for (auto& thread : running) thread.join();
                       }};

// The largest error of the loss and of derivatives along random directions, relative to their size.
template <class T>
double error(Problem& problem) {
  const auto& p = problem;
  const CellKernel<T>& cell = *find_cell<T>(p.cell.c_str());
  const int states = p.shape.states;
  const Timeline timeline(p.T, p.B, p.lengths.data());
  const auto x = as<T>(p.x), mask = as<T>(p.mask), drop = as<T>(p.drop), grad_output = as<T>(p.grad_output);
  const int64_t line = layout_of(p.shape, p.names, p.H).size;
  std::vector<T> output(p.T * p.B * p.H), saved(timeline.entries() * line), grad_x(x.size());
  std::vector<std::vector<T>> initial, grad_final, last(states, std::vector<T>(p.B * p.H)), grad_initial = last;
  for (int i = 0; i < states; ++i) initial.push_back(as<T>(p.initial[i])), grad_final.push_back(as<T>(p.grad_final[i]));

  std::map<std::string, std::vector<T>> weights, gradients;
  ParameterSlots<const T*> slots(count_levels(p.names));
  ParameterSlots<T*> grad_slots(count_levels(p.names));
  for (const auto& [name, values] : p.parameters) {
    weights[name] = as<T>(values), gradients[name] = as<T>(values);
    slots.set(p.shape, ParameterName(name), p.H, weights[name].data());
    grad_slots.set(p.shape, ParameterName(name), p.H, gradients[name].data());
  }

  Forward<T> forward{};
  forward.timeline = &timeline, forward.reverse = p.reverse, forward.input = p.I, forward.hidden = p.H;
  forward.x = {x.data(), p.B * p.I, p.I};
  forward.w_ih = slots.w_ih, forward.b_ih = slots.b_ih;
  forward.w_hh = slots.more.levels[0].w_hh, forward.b_hh = slots.more.levels[0].b_hh;
  forward.more = slots.more;
  forward.mask = p.masked ? mask.data() : nullptr, forward.drop = p.dropped ? drop.data() : nullptr;
  std::copy(p.constants.begin(), p.constants.end(), forward.constants.begin());
  std::copy(p.zoneout.begin(), p.zoneout.end(), forward.zone_rates);
  for (int i = 0; i < states; ++i) forward.zones[i] = p.zones[i].get();
  forward.output = {output.data(), p.B * p.H, p.H};
  for (int i = 0; i < states; ++i) forward.initial[i] = initial[i].data(), forward.final[i] = last[i].data();
  cell.forward({forward}, threads);
  const auto unsaved = output;
  forward.saved = saved.data();
  cell.forward({forward}, threads);
  if (unsaved != output) return 1e9;

  Backward<T> backward{};
  static_cast<Pass<T>&>(backward) = forward;
  backward.grad_output = {grad_output.data(), p.B * p.H, p.H};
  backward.grad_x = {grad_x.data(), p.B * p.I, p.I};
  for (int i = 0; i < states; ++i) backward.grad_final[i] = grad_final[i].data(), backward.grad_initial[i] = grad_initial[i].data();
  backward.grad_w_ih = grad_slots.w_ih, backward.grad_b_ih = grad_slots.b_ih;
  backward.grad_w_hh = grad_slots.more.levels[0].w_hh, backward.grad_b_hh = grad_slots.more.levels[0].b_hh;
  backward.grad_more = grad_slots.more;
  cell.backward({backward}, threads);

  double loss = 0;
  for (size_t i = 0; i < output.size(); ++i) loss += double(output[i]) * p.grad_output[i];
  for (int i = 0; i < states; ++i)
    for (size_t k = 0; k < last[i].size(); ++k) loss += double(last[i][k]) * p.grad_final[i][k];
  double worst = std::abs(loss - p.loss()) / (1 + std::abs(loss));

  const auto compare = [&](Array& input, const std::vector<T>& gradient) {
    const Array direction = normal(int64_t(input.size())), kept = input;
    const double step = p.has_kinks() ? 1e-7 : 1e-5;
    double slope = 0, sides[2];
    for (int side = 0; side < 2; ++side) {
      for (size_t i = 0; i < input.size(); ++i) input[i] = kept[i] + (side ? step : -step) * direction[i];
      sides[side] = problem.loss();
    }
    input = kept;
    for (size_t i = 0; i < input.size(); ++i) slope += double(gradient[i]) * direction[i];
    const double expected = (sides[1] - sides[0]) / (2 * step);
    worst = std::max(worst, std::abs(slope - expected) / (1 + std::abs(expected)));
  };
  compare(problem.x, grad_x);
  for (auto& [name, values] : problem.parameters) compare(values, gradients[name]);
  for (int i = 0; i < states; ++i) compare(problem.initial[i], grad_initial[i]);
  return worst;
}

int main(int, char** argv) {
  const int rounds = std::atoi(argv[1]);
  for (int i = 0; i < rounds; ++i) {
    Problem problem;
    const double in_double = error<double>(problem), in_float = error<float>(problem);
    if (in_double > (problem.has_kinks() ? 1e-3 : 1e-5) || in_float > 1e-3) {
      std::printf("%s T %ld B %ld I %ld H %ld: error %g in double, %g in float\n", problem.cell.c_str(), long(problem.T),
                  long(problem.B), long(problem.I), long(problem.H), in_double, in_float);
      return 1;
    }
  }
  std::printf("%d random problems\n", rounds);
}

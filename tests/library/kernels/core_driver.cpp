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

#include "linear_cross_entropy.h"
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
    if (cell.starts_with("indrnn") || cell.starts_with("sru") || cell.starts_with("fo_pool") || cell.starts_with("min"))
      elementwise_step(cell);
    else if (cell.starts_with("rnn") || cell.starts_with("lstm") || cell == "gru" || cell == "cifg" || cell == "peephole")
      torch_step(cell);
    else
      gated_step(cell);
  }

  void elementwise_step(const std::string& cell) {
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
  }

  void torch_step(const std::string& cell) {
    Array p = products("weight_hh", "bias_hh", 0, int64_t(x.size()), state[0]);
    for (int64_t u = 0; u < H; ++u) {
      const auto both = [&](int block) { return in(block, u) + p[block * H + u]; };
      const double d = drop[u];
      const double c = state.size() > 1 ? state[1][u] : 0;
      if (cell == "rnn_tanh") next[0][u] = std::tanh(both(0)) * d;
      if (cell == "rnn_relu") next[0][u] = std::max(0., both(0)) * d;
      if (cell == "gru") {
        const double r = sigmoid_of(both(0)), z = sigmoid_of(both(1)), n = std::tanh(in(2, u) + r * p[2 * H + u]);
        next[0][u] = (1 - z) * n * d + z * state[0][u];
      }
      if (cell == "lstm" || cell == "lstm_norm") {
        next[1][u] = sigmoid_of(both(1)) * c + sigmoid_of(both(0)) * std::tanh(both(2)) * d;
        next[0][u] = sigmoid_of(both(3)) * std::tanh(next[1][u]);
      }
      if (cell == "peephole") {
        next[1][u] = sigmoid_of(both(1) + weight("weight_cf", u) * c) * c;
        next[1][u] += sigmoid_of(both(0) + weight("weight_ci", u) * c) * std::tanh(both(2)) * d;
        next[0][u] = sigmoid_of(both(3) + weight("weight_co", u) * next[1][u]) * std::tanh(next[1][u]);
      }
      if (cell == "cifg") {
        const double f = sigmoid_of(both(0));
        next[1][u] = f * c + (1 - f) * std::tanh(both(1)) * d;
        next[0][u] = sigmoid_of(both(2)) * std::tanh(next[1][u]);
      }
    }
    if (!cell.ends_with("norm")) return;
    // Layer norm in the middle: of the memory, or of the sum before the activation.
    Array middle = cell == "lstm_norm" ? next[1] : x;
    for (int64_t u = 0; u < H && cell != "lstm_norm"; ++u) middle[u] += p[u];
    normalise(middle, 0, H, parameters.at("norms.0.weight"), &parameters.at("norms.0.bias"));
    for (int64_t u = 0; u < H; ++u) {
      if (cell == "lstm_norm") next[0][u] = sigmoid_of(in(3, u) + p[3 * H + u]) * std::tanh(middle[u]);
      if (cell == "rnn_tanh_norm") next[0][u] = std::tanh(middle[u]) * drop[u];
      if (cell == "rnn_relu_norm") next[0][u] = std::max(0., middle[u]) * drop[u];
    }
  }

  void gated_step(const std::string& cell) {
    if (cell == "rhn") {
      for (int level = 0; level < (parameters.count("weight_hh_2") ? 2 : 1); ++level) {
        const std::string part = level ? "_2" : "";
        const Array p = products("weight_hh" + part, "bias_hh" + part, 0, 2 * H, next[0]);
        for (int64_t u = 0; u < H; ++u) {
          const double t = sigmoid_of((level ? 0 : in(1, u)) + p[H + u]);
          next[0][u] = t * std::tanh((level ? 0 : in(0, u)) + p[u]) * drop[u] + (1 - t) * next[0][u];
        }
      }
      return;
    }
    const bool second = cell == "gru_before" || cell == "mgu" || cell == "lem" || cell == "mlstm";
    Array from = state[0];
    if (cell == "cornn")
      for (int64_t u = 0; u < H; ++u) from.push_back(state[1][u]);
    const int64_t blocks = cell == "gru_before" ? 2 : cell == "lem" ? 3 : cell == "mgu" || cell == "mlstm" || cell == "cornn" ||
                           cell.starts_with("anti") ? 1 : 2;
    const Array p = products(cell == "mlstm" ? "weight_hh_m" : "weight_hh", "bias_hh", 0, blocks * H, from);
    Array middle(H), q(4 * H);
    for (int64_t u = 0; u < H; ++u) {
      const auto both = [&](int block) { return in(block, u) + p[block * H + u]; };
      const double d = drop[u], h = state[0][u], *c = constants.data();
      if (cell == "janet") next[0][u] = sigmoid_of(both(0)) * h + sigmoid_of(c[0] - both(0)) * std::tanh(both(1)) * d;
      if (cell == "ugrnn") next[0][u] = sigmoid_of(both(1)) * h + (1 - sigmoid_of(both(1))) * std::tanh(both(0)) * d;
      if (cell == "ligru") next[0][u] = sigmoid_of(both(0)) * h + (1 - sigmoid_of(both(0))) * std::max(0., both(1)) * d;
      if (cell == "antisymmetric") next[0][u] = h + c[0] * std::tanh(both(0)) * d;
      if (cell == "antisymmetric_gated") next[0][u] = h + c[0] * sigmoid_of(in(1, u) + p[u]) * std::tanh(both(0)) * d;
      if (cell == "cornn") {
        next[1][u] = state[1][u] + c[0] * (std::tanh(both(0)) * d - c[1] * h - c[2] * state[1][u]);
        next[0][u] = h + c[0] * next[1][u];
      }
      if (cell == "gru_before" || cell == "mgu") middle[u] = sigmoid_of(both(0)) * h;
      if (cell == "lem") {
        const double a = c[0] * sigmoid_of(both(0));
        next[1][u] = middle[u] = (1 - a) * state[1][u] + a * std::tanh(both(2)) * d;
      }
      if (cell == "mlstm") middle[u] = in(4, u) * p[u] / mask[u];  // the second product has no mask
    }
    if (cell == "gru_before") q = products("weight_hh", "bias_hh", 2 * H, 3 * H, middle);
    if (cell == "mgu") q = products("weight_hh", "", H, 2 * H, middle);
    if (cell == "lem") q = products("weight_hh_y", "", 0, H, middle);
    if (cell == "mlstm") q = products("weight_hh", "", 0, 4 * H, middle);
    for (int64_t u = 0; second && u < H; ++u) {
      const double d = drop[u], h = state[0][u];
      const auto first = [&](int block) { return sigmoid_of(in(block, u) + p[block * H + u]); };
      if (cell == "gru_before") next[0][u] = (1 - first(1)) * std::tanh(in(2, u) + q[u]) * d + first(1) * h;
      if (cell == "mgu") next[0][u] = (1 - first(0)) * h + first(0) * std::tanh(in(1, u) + q[u]) * d;
      if (cell == "lem") {
        const double step = constants[0] * first(1);
        next[0][u] = (1 - step) * h + step * std::tanh(in(3, u) + q[u]) * d;
      }
      if (cell == "mlstm") {
        const auto gate = [&](int block) { return in(block, u) + q[block * H + u]; };
        next[1][u] = sigmoid_of(gate(1)) * state[1][u] + sigmoid_of(gate(0)) * std::tanh(gate(2)) * d;
        next[0][u] = sigmoid_of(gate(3)) * std::tanh(next[1][u]);
      }
    }
  }

  // Layer norm of [first, last), with its gain and perhaps its bias.
  static void normalise(Array& values, int64_t first, int64_t last, const Array& gain, const Array* bias) {
    double mean = 0, squares = 0;
    for (int64_t i = first; i < last; ++i) mean += values[i] / double(last - first);
    for (int64_t i = first; i < last; ++i) squares += (values[i] - mean) * (values[i] - mean) / double(last - first);
    for (int64_t i = first; i < last; ++i)
      values[i] = (values[i] - mean) / std::sqrt(squares + 1e-5) * gain[i] + (bias ? (*bias)[i] : 0);
  }

  // Rows of W h + b, h through the mask.
  Array products(const std::string& matrix, const std::string& bias, int64_t first, int64_t last, const Array& h) const {
    const Array& w = parameters.at(matrix);
    Array out(last - first);
    for (int64_t i = first; i < last; ++i) {
      out[i - first] = parameters.count(bias) ? parameters.at(bias)[i] : 0;
      for (int64_t k = 0; k < int64_t(h.size()); ++k) out[i - first] += w[i * int64_t(h.size()) + k] * h[k] * mask[k % H];
    }
    const auto norm = parameters.find("norm_hh.weight");
    if (norm == parameters.end()) return out;
    Array all(last), gains = norm->second;
    for (int64_t i = first; i < last; ++i) all[i] = out[i - first] - (parameters.count(bias) ? parameters.at(bias)[i] : 0);
    const int64_t cut = matrix == "weight_hh" && int64_t(gains.size()) == 3 * H ? 2 * H : last;  // GRU: r z together, n alone
    if (first < cut) normalise(all, first, std::min(last, cut), gains, nullptr);
    if (last > cut) normalise(all, cut, last, gains, nullptr);
    for (int64_t i = first; i < last; ++i) out[i - first] = all[i] + (parameters.count(bias) ? parameters.at(bias)[i] : 0);
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
    {"peephole", {"weight_ih", "weight_hh", "bias_ih", "weight_ci", "weight_cf", "weight_co"}},
    {"cifg", {"weight_ih", "weight_hh", "bias_ih"}},
    {"janet", {"weight_ih", "weight_hh", "bias_ih"}},
    {"ugrnn", {"weight_ih", "weight_hh", "bias_ih"}},
    {"ligru", {"weight_ih", "weight_hh", "bias_ih"}},
    {"ligru", {"weight_ih", "weight_hh", "bias_ih", "norm_ih.weight"}},
    {"rhn", {"weight_ih", "weight_hh", "bias_ih"}},
    {"rhn", {"weight_ih", "weight_hh", "bias_ih", "weight_hh_2", "bias_hh_2"}},
    {"antisymmetric", {"weight_ih", "weight_hh", "bias_ih"}},
    {"antisymmetric_gated", {"weight_ih", "weight_hh", "bias_ih"}},
    {"cornn", {"weight_ih", "weight_hh", "bias_ih"}},
    {"gru_before", {"weight_ih", "weight_hh", "bias_ih", "bias_hh"}},
    {"gru_before", {"weight_ih", "weight_hh", "bias_ih", "bias_hh", "norm_ih.weight", "norm_hh.weight"}},
    {"gru", {"weight_ih", "weight_hh", "bias_ih", "bias_hh", "norm_ih.weight", "norm_hh.weight"}},
    {"mgu", {"weight_ih", "weight_hh", "bias_ih"}},
    {"lem", {"weight_ih", "weight_hh", "weight_hh_y", "bias_ih"}},
    {"mlstm", {"weight_ih", "weight_hh", "weight_hh_m", "bias_ih"}},
    {"rnn_tanh_norm", {"weight_ih", "weight_hh", "norms.0.weight", "norms.0.bias"}},
    {"rnn_relu_norm", {"weight_ih", "weight_hh", "norms.0.weight", "norms.0.bias"}},
    {"lstm_norm", {"weight_ih", "weight_hh", "bias_ih", "bias_hh", "norm_ih.weight", "norm_hh.weight", "norms.0.weight", "norms.0.bias"}},
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

  // A wide problem is one for threads that share the units of few rows, with weights packed or as they lie.
  explicit Problem(bool is_wide) {
    const Drawn& drawn = kCells[uniform(0, is_wide ? 3 : std::size(kCells) - 1)];
    cell = drawn.cell, names = drawn.names, shape = find_cell<double>(drawn.cell)->shape;
    const bool packs = is_wide && uniform(0, 1);
    // More steps of weights like these are chaos, whose derivatives no difference measures.
    T = packs ? 20 : uniform(0, 6), B = packs ? 8 : uniform(0, is_wide ? 8 : 40);
    H = is_wide ? uniform(257, 270) : uniform(1, 60), I = is_wide ? uniform(1, 8) : shape.reads_x ? H : uniform(1, 60);
    reverse = uniform(0, 1), masked = uniform(0, 1), dropped = !is_wide && uniform(0, 1);
    for (int64_t b = 0; b < B; ++b) lengths.push_back(uniform(packs ? T - 3 : 0, T));
    for (const std::string& name : names) {
      int64_t size = 1;
      for (int64_t n : parameter_shape(shape, ParameterName(name), I, H)) size *= n;
      parameters[name] = normal(size);
      for (double& value : parameters[name]) value *= is_wide ? 0.1 : 1;
    }
    constants = {0.7, 1.3, 0.4};
    x = normal(T * B * I), grad_output = normal(T * B * H);
    mask = masked ? normal(B * H) : Array(B * H, 1.), drop = dropped ? normal(B * H) : Array(B * H, 1.);
    const bool zoned = !is_wide && uniform(0, 1), in_expectation = uniform(0, 1);
    for (int i = 0; i < shape.states; ++i) {
      initial.push_back(normal(B * H)), grad_final.push_back(normal(B * H));
      zoneout.push_back(zoned && uniform(0, 1) ? 0.3 : 0.);
      zones.emplace_back(zoneout[i] > 0 && !in_expectation ? new bool[T * B * H] : nullptr);
      for (int64_t k = 0; zones[i] && k < T * B * H; ++k) zones[i][k] = uniform(0, 2) == 0;
    }
  }

  // A quotient that straddles a kink is off.
  bool has_kinks() const { return cell.find("relu") != std::string::npos || cell == "ligru" || cell.ends_with("positive"); }

  // The scalar whose gradient the core computes: sum of output * grad_output and of last state * grad_final.
  double loss() const {
    double total = 0;
    const bool normed = parameters.count("norm_ih.weight");
    const Array &w = parameters.at("weight_ih"), none(shape.inputs * H, 0.);
    const Array& bias = parameters.count("bias_ih") ? parameters.at("bias_ih") : none;
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
          row.x[i] = normed ? 0 : bias[i];
          for (int64_t k = 0; k < I; ++k) row.x[i] += w[i * I + k] * input[k];
        }
        for (int group = 0, at = 0; normed && group < shape.groups; at += shape.norm_groups[group++])
          Equations::normalise(row.x, at * H, (at + shape.norm_groups[group]) * H, parameters.at("norm_ih.weight"), &bias);
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

void side_by_side(int64_t count, const std::function<void(int64_t)>& job) {
  std::vector<std::thread> running;
  for (int64_t i = 0; i < count; ++i) running.emplace_back(job, i);
  for (auto& thread : running) thread.join();
}

const Parallel threads{3, side_by_side, [](int most, const std::function<void(int, int)>& job) {
                         side_by_side(most, [&](int64_t i) { job(int(i), most); });
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
  cell.forward({{forward}}, threads);
  const auto unsaved = output;
  forward.saved = saved.data(), forward.streams = uniform(0, 1);
  cell.forward({{forward}}, threads);
  if (unsaved != output) return 1e9;

  Backward<T> backward{};
  static_cast<Pass<T>&>(backward) = forward;
  backward.grad_output = {grad_output.data(), p.B * p.H, p.H};
  backward.grad_x = {grad_x.data(), p.B * p.I, p.I};
  for (int i = 0; i < states; ++i) backward.grad_final[i] = grad_final[i].data(), backward.grad_initial[i] = grad_initial[i].data();
  backward.grad_w_ih = grad_slots.w_ih, backward.grad_b_ih = grad_slots.b_ih;
  backward.grad_w_hh = grad_slots.more.levels[0].w_hh, backward.grad_b_hh = grad_slots.more.levels[0].b_hh;
  backward.grad_more = grad_slots.more;
  cell.backward({{backward}}, threads);

  double loss = 0;
  for (size_t i = 0; i < output.size(); ++i) loss += double(output[i]) * p.grad_output[i];
  for (int i = 0; i < states; ++i)
    for (size_t k = 0; k < last[i].size(); ++k) loss += double(last[i][k]) * p.grad_final[i][k];
  double worst = std::abs(loss - p.loss()) / (1 + std::abs(loss));

  const auto compare = [&](Array& input, const std::vector<T>& gradient) {
    const Array direction = normal(int64_t(input.size())), kept = input;
    const double step = p.has_kinks() ? 1e-7 : 2e-5;
    const auto loss_at = [&](double distance) {
      for (size_t i = 0; i < input.size(); ++i) input[i] = kept[i] + distance * direction[i];
      return problem.loss();
    };
    // Of fourth order: some cells bend sharply.
    const double near = loss_at(step) - loss_at(-step), far = loss_at(2 * step) - loss_at(-2 * step);
    const double expected = (8 * near - far) / (12 * step);
    input = kept;
    double slope = 0;
    for (size_t i = 0; i < input.size(); ++i) slope += double(gradient[i]) * direction[i];
    worst = std::max(worst, std::abs(slope - expected) / (1 + std::abs(expected)));
  };
  compare(problem.x, grad_x);
  for (auto& [name, values] : problem.parameters) compare(values, gradients[name]);
  for (int i = 0; i < states; ++i) compare(problem.initial[i], grad_initial[i]);
  return worst;
}

// The worst error of the loss of a random softmax and of its gradients.
template <class T>
double softmax_error() {
  const int64_t count = uniform(0, 3) ? uniform(0, 80) : uniform(500, 600), E = uniform(0, 40);
  const int64_t V = uniform(0, 3) ? uniform(1, 70) : uniform(500, 600);
  const auto hidden = as<T>(normal(count * E)), weight = as<T>(normal(V * E)), bias = as<T>(normal(V));
  std::vector<int64_t> targets(count);
  for (int64_t& target : targets) target = uniform(-1, V - 1);
  std::vector<T> to_hidden(count * E), to_weight(V * E), to_bias(V);
  const LinearCrossEntropy<T> softmax{count, E, V, hidden.data(), weight.data(), bias.data(), targets.data()};
  const double found = linear_cross_entropy(softmax, {to_hidden.data(), to_weight.data(), to_bias.data()}, threads);
  if (found != linear_cross_entropy(softmax, {}, threads)) return 1e9;

  double loss = 0;
  Array expected_hidden(count * E), expected_weight(V * E), expected_bias(V);
  for (int64_t n = 0; n < count; ++n) {
    if (targets[n] < 0) continue;
    Array p(V);
    double total = 0;
    for (int64_t v = 0; v < V; ++v) {
      double z = bias[v];
      for (int64_t e = 0; e < E; ++e) z += double(weight[v * E + e]) * hidden[n * E + e];
      total += p[v] = std::exp(z);
    }
    loss -= std::log(p[targets[n]] / total);
    for (int64_t v = 0; v < V; ++v) {
      const double g = p[v] / total - (v == targets[n]);
      expected_bias[v] += g;
      for (int64_t e = 0; e < E; ++e) {
        expected_hidden[n * E + e] += g * weight[v * E + e];
        expected_weight[v * E + e] += g * hidden[n * E + e];
      }
    }
  }
  double worst = std::abs(found - loss) / (1 + std::abs(loss));
  const auto compare = [&](const std::vector<T>& values, const Array& expected) {
    for (size_t i = 0; i < expected.size(); ++i) worst = std::max(worst, std::abs(values[i] - expected[i]) / (1 + std::abs(expected[i])));
  };
  compare(to_hidden, expected_hidden), compare(to_weight, expected_weight), compare(to_bias, expected_bias);
  return worst;
}

// The number of problems, and the seed that they are drawn from.
int main(int, char** argv) {
  const int rounds = std::atoi(argv[1]);
  random_bits.seed(std::atoi(argv[2]));
  for (int i = 0; i < rounds; ++i) {
    const double in_double = softmax_error<double>(), in_float = softmax_error<float>();
    if (in_double > 1e-12 || in_float > 1e-4) {
      std::printf("a softmax: error %g in double, %g in float\n", in_double, in_float);
      return 1;
    }
  }
  for (int i = 0; i < rounds; ++i) {
    Problem problem(i % 50 == 0);
    const double in_double = error<double>(problem), in_float = error<float>(problem);
    if (in_double > (problem.has_kinks() ? 1e-3 : 1e-5) || in_float > 1e-3) {
      std::printf("%s T %ld B %ld I %ld H %ld: error %g in double, %g in float\n", problem.cell.c_str(), long(problem.T),
                  long(problem.B), long(problem.I), long(problem.H), in_double, in_float);
      return 1;
    }
  }
  std::printf("%d random problems\n", rounds);
}

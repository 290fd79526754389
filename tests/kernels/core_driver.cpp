// Runs the kernel core alone, on random shapes, against equations written out plainly. Built by test_fused_core.py under
// the sanitizers; every array is a heap block of its own, so that a read outside of it is seen.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <thread>

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

// One unit's step, from what W_ih x + b_ih and W_hh h + b_hh gave each gate.
void plain_step(const std::string& cell, const double* x, const double* p, const double* state, double* next) {
  if (cell == "rnn_tanh") next[0] = std::tanh(x[0] + p[0]);
  if (cell == "rnn_relu") next[0] = std::max(0., x[0] + p[0]);
  if (cell == "gru") {
    const double r = sigmoid_of(x[0] + p[0]), z = sigmoid_of(x[1] + p[1]), n = std::tanh(x[2] + r * p[2]);
    next[0] = (1 - z) * n + z * state[0];
  }
  if (cell == "lstm") {
    next[1] = sigmoid_of(x[1] + p[1]) * state[1] + sigmoid_of(x[0] + p[0]) * std::tanh(x[2] + p[2]);
    next[0] = sigmoid_of(x[3] + p[3]) * std::tanh(next[1]);
  }
}

struct Problem {
  std::string cell;
  int gates, states;
  int64_t T, B, I, H;
  bool reverse, masked;
  std::vector<int64_t> lengths;
  Array x, w_ih, w_hh, b_ih, b_hh, mask, grad_output;
  std::vector<Array> initial, grad_final;

  Problem() {
    const char* cells[] = {"rnn_tanh", "rnn_relu", "lstm", "gru"};
    cell = cells[uniform(0, 3)];
    gates = cell == "lstm" ? 4 : cell == "gru" ? 3 : 1, states = cell == "lstm" ? 2 : 1;
    T = uniform(0, 6), B = uniform(0, 40), I = uniform(1, 60), H = uniform(1, 60);
    reverse = uniform(0, 1), masked = uniform(0, 1);
    for (int64_t b = 0; b < B; ++b) lengths.push_back(uniform(0, T));
    x = normal(T * B * I), w_ih = normal(gates * H * I), w_hh = normal(gates * H * H), grad_output = normal(T * B * H);
    b_ih = normal(gates * H), b_hh = normal(gates * H), mask = normal(B * H);
    for (int i = 0; i < states; ++i) initial.push_back(normal(B * H)), grad_final.push_back(normal(B * H));
  }

  // The scalar whose gradient the core computes: sum of output * grad_output and of last state * grad_final.
  double loss() const {
    double total = 0;
    for (int64_t b = 0; b < B; ++b) {
      std::vector<Array> state(states);
      for (int i = 0; i < states; ++i) state[i].assign(&initial[i][b * H], &initial[i][b * H] + H);
      for (int64_t step = 0; step < lengths[b]; ++step) {
        const int64_t t = reverse ? lengths[b] - 1 - step : step;
        std::vector<Array> next = state;
        for (int64_t u = 0; u < H; ++u) {
          double gx[4], gh[4], before[2], after[2];
          for (int g = 0; g < gates; ++g) {
            gx[g] = b_ih[g * H + u], gh[g] = b_hh[g * H + u];
            for (int64_t i = 0; i < I; ++i) gx[g] += w_ih[(g * H + u) * I + i] * x[(t * B + b) * I + i];
            for (int64_t k = 0; k < H; ++k) gh[g] += w_hh[(g * H + u) * H + k] * state[0][k] * (masked ? mask[b * H + k] : 1);
          }
          for (int i = 0; i < states; ++i) before[i] = state[i][u];
          plain_step(cell, gx, gh, before, after);
          for (int i = 0; i < states; ++i) next[i][u] = after[i];
        }
        state = next;
        for (int64_t u = 0; u < H; ++u) total += state[0][u] * grad_output[(t * B + b) * H + u];
      }
      for (int i = 0; i < states; ++i)
        for (int64_t u = 0; u < H; ++u) total += state[i][u] * grad_final[i][b * H + u];
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
  const Timeline timeline(p.T, p.B, p.lengths.data());
  const auto x = as<T>(p.x), w_ih = as<T>(p.w_ih), w_hh = as<T>(p.w_hh), b_ih = as<T>(p.b_ih), b_hh = as<T>(p.b_hh);
  const auto mask = as<T>(p.mask), grad_output = as<T>(p.grad_output);
  std::vector<T> output(p.T * p.B * p.H), saved(timeline.entries() * cell.saved_blocks * p.H), grad_x(x.size());
  std::vector<T> grad_w_ih(w_ih.size()), grad_w_hh(w_hh.size()), grad_b_ih(b_ih.size()), grad_b_hh(b_hh.size());
  std::vector<std::vector<T>> initial, grad_final, last(p.states, std::vector<T>(p.B * p.H)), grad_initial = last;
  for (int i = 0; i < p.states; ++i) initial.push_back(as<T>(p.initial[i])), grad_final.push_back(as<T>(p.grad_final[i]));

  Forward<T> forward{};
  forward.timeline = &timeline, forward.reverse = p.reverse, forward.input = p.I, forward.hidden = p.H;
  forward.x = {x.data(), p.B * p.I, p.I};
  forward.w_ih = w_ih.data(), forward.w_hh = w_hh.data(), forward.b_ih = b_ih.data(), forward.b_hh = b_hh.data();
  forward.mask = p.masked ? mask.data() : nullptr;
  forward.output = {output.data(), p.B * p.H, p.H};
  for (int i = 0; i < p.states; ++i) forward.initial[i] = initial[i].data(), forward.final[i] = last[i].data();
  cell.forward({forward}, threads);
  const auto unsaved = output;
  forward.saved = saved.data();
  cell.forward({forward}, threads);
  if (unsaved != output) return 1e9;

  Backward<T> backward{};
  static_cast<Pass<T>&>(backward) = forward;
  backward.grad_output = {grad_output.data(), p.B * p.H, p.H};
  backward.grad_x = {grad_x.data(), p.B * p.I, p.I};
  for (int i = 0; i < p.states; ++i) backward.grad_final[i] = grad_final[i].data(), backward.grad_initial[i] = grad_initial[i].data();
  backward.grad_w_ih = grad_w_ih.data(), backward.grad_w_hh = grad_w_hh.data();
  backward.grad_b_ih = grad_b_ih.data(), backward.grad_b_hh = grad_b_hh.data();
  cell.backward({backward}, threads);

  double loss = 0;
  for (size_t i = 0; i < output.size(); ++i) loss += double(output[i]) * p.grad_output[i];
  for (int i = 0; i < p.states; ++i)
    for (size_t k = 0; k < last[i].size(); ++k) loss += double(last[i][k]) * p.grad_final[i][k];
  double worst = std::abs(loss - p.loss()) / (1 + std::abs(loss));

  const auto compare = [&](Array& input, const std::vector<T>& gradient) {
    const Array direction = normal(int64_t(input.size())), kept = input;
    const double step = p.cell == "rnn_relu" ? 1e-7 : 1e-5;  // a quotient that straddles one of relu's kinks is off
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
  compare(problem.x, grad_x), compare(problem.w_ih, grad_w_ih), compare(problem.w_hh, grad_w_hh);
  compare(problem.b_ih, grad_b_ih), compare(problem.b_hh, grad_b_hh);
  for (int i = 0; i < p.states; ++i) compare(problem.initial[i], grad_initial[i]);
  return worst;
}

int main(int, char** argv) {
  const int rounds = std::atoi(argv[1]);
  for (int i = 0; i < rounds; ++i) {
    Problem problem;
    const double in_double = error<double>(problem), in_float = error<float>(problem);
    if (in_double > (problem.cell == "rnn_relu" ? 1e-3 : 1e-5) || in_float > 1e-3) {
      std::printf("%s T %ld B %ld I %ld H %ld: error %g in double, %g in float\n", problem.cell.c_str(), long(problem.T),
                  long(problem.B), long(problem.I), long(problem.H), in_double, in_float);
      return 1;
    }
  }
  std::printf("%d random problems\n", rounds);
}

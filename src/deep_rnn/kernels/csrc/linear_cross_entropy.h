// The loss of a large softmax and its gradients, with the logits of a few lines in memory at a time, and not of all: the
// loss of a line is -log p of its target, p = softmax(W h + b). The gradient of the logits, p - 1 at the target and p
// elsewhere, takes their place and is used up at once, as in the kernels of Hsu et al. (2024) and Wijmans et al. (2025).
#pragma once

#include <cmath>
#include <limits>

#include "lines.h"
#include "vec_math.h"

namespace deep_rnn {

template <class T>
struct LinearCrossEntropy {
  int64_t count, input, classes;
  const T *hidden, *weight, *bias;  // [count, input], [classes, input], [classes]
  const int64_t* targets;           // [count]; -1: the line counts for nothing
};

// Of the sum of all losses; null: not wanted, of weight and bias both or none.
template <class T>
struct LinearCrossEntropyGradients {
  T *hidden = nullptr, *weight = nullptr, *bias = nullptr;
};

constexpr int64_t kLinesOfBlock = 32;     // whose logits one thread makes together
constexpr int64_t kLogitBytes = 8 << 20;  // of all blocks whose gradients then go into that of the weight together
constexpr int64_t kClassesOfPanel = 512;  // of the weight, that lie in a core's cache together

// Turns the logits of a line, padded to whole vectors, into the gradient of its loss, and returns the loss.
template <class T>
double softmax_line(T* line, int64_t classes, int64_t target) {
  constexpr int L = kLanes<T>;
  const int64_t padded = whole_vectors<T>(classes) * L;
  if (target < 0) {
    std::fill(line, line + padded, T(0));
    return 0;
  }
  std::fill(line + classes, line + padded, -std::numeric_limits<T>::infinity());
  Vec<T> most = load(line), sum{};
  for (int64_t i = L; i < padded; i += L) {
    const Vec<T> z = load(line + i);
    most = z > most ? z : most;
  }
  T shift = most[0];
  for (int i = 1; i < L; ++i) shift = most[i] > shift ? most[i] : shift;
  const T chosen = line[target];
  for (int64_t i = 0; i < padded; i += L) {
    const Vec<T> e = exp(load(line + i) - shift);
    sum += e;
    store(line + i, e);
  }
  const T total = sum_of(sum), scale = 1 / total;
  for (int64_t i = 0; i < padded; i += L) store(line + i, load(line + i) * scale);
  line[target] -= 1;
  return std::log(double(total)) + double(shift) - double(chosen);
}

// The weight as it is read by the two products of a block: [input, classes] for the logits, and panels of so many classes,
// [classes, input], for the gradient of the hidden lines.
template <class T>
struct PackedSoftmax {
  PackedSoftmax(const LinearCrossEntropy<T>& softmax, bool wants_hidden, const Parallel& parallel)
      : logits(softmax.input, softmax.classes) {
    parallel.run(logits.tiles(), [&](int64_t tile) { logits.pack_tile(tile, softmax.weight, 1, softmax.input); });
    for (int64_t first = 0; wants_hidden && first < softmax.classes; first += kClassesOfPanel)
      panels.emplace_back(std::min(kClassesOfPanel, softmax.classes - first), softmax.input);
    parallel.run(int64_t(panels.size()), [&](int64_t p) {
      panels[p].pack_lines([&](int64_t k) { return softmax.weight + (p * kClassesOfPanel + k) * softmax.input; });
    });
  }

  Packed<T> logits;
  std::vector<Packed<T>> panels;
};

// Returns the sum of all losses.
template <class T>
double linear_cross_entropy(const LinearCrossEntropy<T>& softmax, const LinearCrossEntropyGradients<T>& grad, const Parallel& parallel) {
  const int64_t input = softmax.input, classes = softmax.classes, stride = whole_vectors<T>(classes) * kLanes<T>;
  const PackedSoftmax<T> weight(softmax, grad.hidden, parallel);
  const int64_t fitting = kLogitBytes / (stride * int64_t(sizeof(T))) / kLinesOfBlock * kLinesOfBlock;
  const int64_t together = std::clamp(fitting, kLinesOfBlock * parallel.threads, std::max<int64_t>(512, kLinesOfBlock * parallel.threads));
  const Buffer<T> logits(std::min(together, softmax.count) * stride);
  const Buffer<double> losses(softmax.count);
  if (grad.bias) std::fill(grad.weight, grad.weight + classes * input, T(0)), std::fill(grad.bias, grad.bias + classes, T(0));
  for (int64_t start = 0; start < softmax.count; start += together) {
    const int64_t count = std::min(together, softmax.count - start);
    const T* hidden = softmax.hidden + start * input;
    for_blocks(count, kLinesOfBlock, parallel, [&](int64_t first, int64_t last) {
      multiply_lines<T>({hidden, input}, {logits.get(), stride}, first, last, weight.logits, Start::bias, softmax.bias);
      for (int64_t k = first; k < last; ++k)
        losses.get()[start + k] = softmax_line(logits.get() + k * stride, classes, softmax.targets[start + k]);
      for (size_t p = 0; p < weight.panels.size(); ++p)
        multiply_lines<T>({logits.get() + int64_t(p) * kClassesOfPanel, stride}, {grad.hidden + start * input, input}, first, last,
                          weight.panels[p], p ? Start::out : Start::zero);
    });
    const int64_t parts = grad.bias ? parallel.threads : 0;
    parallel.run(parts, [&](int64_t i) {
      add_outer_sums(
          count, Lines<const T>{logits.get(), stride}, border(i, parts, classes), border(i + 1, parts, classes), grad.bias,
          OuterSum{[&](int64_t k) { return hidden + k * input; }, input, grad.weight});
    });
  }
  double sum = 0;
  for (int64_t k = 0; k < softmax.count; ++k) sum += losses.get()[k];
  return sum;
}

}  // namespace deep_rnn

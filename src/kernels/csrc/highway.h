// A highway link over lines of features, in one sweep: y = t * out + (1 - t) * carried with t = sigmoid(W below + b).
#pragma once

#include "pass.h"
#include "vec_math.h"

namespace deep_rnn {

template <class T>
struct HighwayLink {
  int64_t count, input, width;     // lines; features of `below`; of all others
  const T *carried, *out, *below;  // [count, width], [count, width], [count, input]
  const T* weight;                 // [width, input]
  T* gate;                         // [count, width]: t
};

template <class T>
struct HighwayGradients {
  const T* y;
  T *carried, *out, *below, *weight, *bias;  // `below` null: not wanted
};

// Calls f(first, last) for blocks of lines, side by side.
template <class F>
void for_blocks(int64_t count, const Parallel& parallel, F f) {
  const int64_t blocks = (count + kEntriesTogether - 1) / kEntriesTogether;
  parallel.run(blocks, [&](int64_t i) { f(i * kEntriesTogether, std::min((i + 1) * kEntriesTogether, count)); });
}

// Lines [first, last) of `from` times a matrix, to those of `to`.
template <class T>
void multiply_lines(const T* from, T* to, int64_t first, int64_t last, const Packed<T>& matrix, int64_t width, Start start, const T* bias) {
  const T* rows[kEntriesTogether];
  T* results[kEntriesTogether];
  for (int64_t k = first; k < last; ++k) rows[k - first] = from + k * matrix.depth(), results[k - first] = to + k * width;
  multiply(rows, results, last - first, matrix, start, bias);
}

template <class T>
void highway_forward(const HighwayLink<T>& link, const T* bias, T* y, const Parallel& parallel) {
  const Packed<T> weight(link.input, link.width);
  for (int64_t tile = 0; tile < weight.tiles(); ++tile) weight.pack_tile(tile, link.weight, 1, link.input);
  for_blocks(link.count, parallel, [&](int64_t first, int64_t last) {
    multiply_lines(link.below, link.gate, first, last, weight, link.width, Start::bias, bias);
    const T *carried = link.carried + first * link.width, *out = link.out + first * link.width;
    T *gate = link.gate + first * link.width, *to = y + first * link.width;
    for_row<T>((last - first) * link.width, [=](auto lanes, int64_t i) {
      const Vec<T> t = sigmoid(lanes.load(gate + i)), from = lanes.load(carried + i);
      lanes.store(gate + i, t);
      lanes.store(to + i, from + t * (lanes.load(out + i) - from));
    });
  });
}

template <class T>
void highway_backward(const HighwayLink<T>& link, const HighwayGradients<T>& grad, const Parallel& parallel) {
  const int64_t width = link.width;
  const Packed<T> weight(grad.below ? width : 0, link.input);
  for (int64_t tile = 0; grad.below && tile < weight.tiles(); ++tile) weight.pack_tile(tile, link.weight, link.input, 1);
  const Buffer<T> sums(link.count * width);  // the gradient of W below + b
  for_blocks(link.count, parallel, [&](int64_t first, int64_t last) {
    const int64_t start = first * width;
    const T *y = grad.y + start, *carried = link.carried + start, *out = link.out + start, *gate = link.gate + start;
    T *to_carried = grad.carried + start, *to_out = grad.out + start, *sum = sums.get() + start;
    for_row<T>((last - first) * width, [=](auto lanes, int64_t i) {
      const Vec<T> g = lanes.load(y + i), t = lanes.load(gate + i), through = g * t;
      lanes.store(to_out + i, through);
      lanes.store(to_carried + i, g - through);
      lanes.store(sum + i, through * (1 - t) * (lanes.load(out + i) - lanes.load(carried + i)));
    });
    if (grad.below)
      multiply_lines(sums.get(), grad.below, first, last, weight, link.input, Start::zero, static_cast<const T*>(nullptr));
  });
  const int64_t parts = parallel.threads;
  const auto border = [&](int64_t i) { return i == parts ? width : width * i / parts / kTileRows * kTileRows; };
  parallel.run(parts, [&](int64_t i) {
    outer_sum(
        link.count, [&](int64_t k) { return sums.get() + k * width; }, [&](int64_t k) { return link.below + k * link.input; }, border(i),
        border(i + 1), link.input, grad.weight, grad.bias);
  });
}

}  // namespace deep_rnn

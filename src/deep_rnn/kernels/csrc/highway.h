// A highway link over lines of features, in one sweep: y = t * out + (1 - t) * carried with t = sigmoid(W below + b).
#pragma once

#include "lines.h"
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

template <class T>
void highway_forward(const HighwayLink<T>& link, const T* bias, T* y, const Parallel& parallel) {
  const Packed<T> weight(link.input, link.width);
  for (int64_t tile = 0; tile < weight.tiles(); ++tile) weight.pack_tile(tile, link.weight, 1, link.input);
  for_blocks(link.count, kEntriesTogether, parallel, [&](int64_t first, int64_t last) {
    multiply_lines<T>({link.below, link.input}, {link.gate, link.width}, first, last, weight, Start::bias, bias);
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
  for_blocks(link.count, kEntriesTogether, parallel, [&](int64_t first, int64_t last) {
    const int64_t start = first * width;
    const T *y = grad.y + start, *carried = link.carried + start, *out = link.out + start, *gate = link.gate + start;
    T *to_carried = grad.carried + start, *to_out = grad.out + start, *sum = sums.get() + start;
    for_row<T>((last - first) * width, [=](auto lanes, int64_t i) {
      const Vec<T> g = lanes.load(y + i), t = lanes.load(gate + i), through = g * t;
      lanes.store(to_out + i, through);
      lanes.store(to_carried + i, g - through);
      lanes.store(sum + i, through * (1 - t) * (lanes.load(out + i) - lanes.load(carried + i)));
    });
    if (grad.below) multiply_lines<T>({sums.get(), width}, {grad.below, link.input}, first, last, weight, Start::zero);
  });
  const int64_t parts = parallel.threads;
  parallel.run(parts, [&](int64_t i) {
    outer_sums(
        link.count, Lines<const T>{sums.get(), width}, border(i, parts, width), border(i + 1, parts, width), grad.bias,
        OuterSum{[&](int64_t k) { return link.below + k * link.input; }, link.input, grad.weight});
  });
}

}  // namespace deep_rnn

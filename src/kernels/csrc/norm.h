// Layer norm of one row, in the row's own cache: y = gain * normal + bias with normal = (x - mean) / deviation.
#pragma once

#include <cmath>

#include "vec.h"

namespace deep_rnn {

constexpr double kNormEpsilon = 1e-5;  // torch.nn.functional.layer_norm's

// The sum of f(lanes, unit) over a row.
template <class T, class F>
T sum_row(int64_t width, F f) {
  Vec<T> total{};
  for (int64_t unit = 0; unit < width; unit += kLanes<T>) total += f(Lanes<T>(width - unit), unit);
  T sum = 0;
  for (int i = 0; i < kLanes<T>; ++i) sum += total[i];
  return sum;
}

// Calls f(lanes, unit) for every vector of a row.
template <class T, class F>
void for_row(int64_t width, F f) {
  for (int64_t unit = 0; unit < width; unit += kLanes<T>) f(Lanes<T>(width - unit), unit);
}

// Writes the normal form of `from`; returns one over the deviation. `normal` may be `from`.
template <class T>
T normalise(int64_t width, const T* from, T* normal) {
  const T mean = sum_row<T>(width, [&](auto lanes, int64_t i) { return lanes.load(from + i); }) / T(width);
  const Vec<T> means = Vec<T>{} + mean;
  const T squares = sum_row<T>(width, [&](auto lanes, int64_t i) {
    Vec<T> d = lanes.load(from + i) - means;
    lanes.clear_rest(d);
    return d * d;
  });
  const T scale = 1 / std::sqrt(squares / T(width) + T(kNormEpsilon));
  for_row<T>(width, [&](auto lanes, int64_t i) { lanes.store(normal + i, (lanes.load(from + i) - means) * scale); });
  return scale;
}

// out = gain * normal + base; base null: 0. `out` may be `base` or `normal`.
template <class T>
void scale_row(int64_t width, const T* normal, const T* gain, const T* base, T* out) {
  for_row<T>(width, [&](auto lanes, int64_t i) {
    const Vec<T> scaled = lanes.load(gain + i) * lanes.load(normal + i);
    lanes.store(out + i, base ? scaled + lanes.load(base + i) : scaled);
  });
}

// From the gradient of y that of x, in `out` (may be `grad`); adds to those of gain and bias.
template <class T>
void normalise_back(int64_t width, const T* grad, const T* gain, const T* normal, T scale, T* out, T* grad_gain, T* grad_bias) {
  const T mean = sum_row<T>(width, [&](auto lanes, int64_t i) { return lanes.load(grad + i) * lanes.load(gain + i); }) / T(width);
  const T slope = sum_row<T>(width, [&](auto lanes, int64_t i) {
                    return lanes.load(grad + i) * lanes.load(gain + i) * lanes.load(normal + i);
                  }) / T(width);
  for_row<T>(width, [&](auto lanes, int64_t i) {
    const Vec<T> g = lanes.load(grad + i), n = lanes.load(normal + i);
    lanes.store(grad_gain + i, lanes.load(grad_gain + i) + g * n);
    lanes.store(grad_bias + i, lanes.load(grad_bias + i) + g);
    lanes.store(out + i, (g * lanes.load(gain + i) - mean - n * slope) * scale);
  });
}

}  // namespace deep_rnn

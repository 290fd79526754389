// Layer norm of one row, in the row's own cache: y = gain * normal + bias with normal = (x - mean) / deviation.
#pragma once

#include <cmath>

#include "kept.h"

namespace deep_rnn {

constexpr double kNormEpsilon = 1e-5;  // torch.nn.functional.layer_norm's

// Sums over a row of what f(lanes, unit) gives for every vector of it. Vectors take turns at four sums, since an addition
// waits for the one before it.
template <class T, class F>
auto sum_row(int64_t width, F f) {
  constexpr int64_t kSums = 4, L = kLanes<T>;
  decltype(f(Lanes<T>(L), 0)) sums[kSums]{};
  int64_t unit = 0;
  for (; unit + kSums * L <= width; unit += kSums * L)
#pragma GCC unroll 4
    for (int i = 0; i < kSums; ++i) sums[i] += f(Lanes<T>(L), unit + i * L);
  for (; unit < width; unit += L) sums[0] += f(Lanes<T>(width - unit), unit);
  return (sums[0] += sums[1]) += (sums[2] += sums[3]);
}

// Two sums at a time.
template <class T>
struct TwoSums {
  Vec<T> first, second;
  TwoSums& operator+=(const TwoSums& other) {
    first += other.first, second += other.second;
    return *this;
  }
};

// y = gain * normal + base (null: 0) of a row; keeps the normal form. Returns one over the deviation. `y` may be `x` or `base`.
template <class T>
T normalise(int64_t width, const T* x, const T* gain, const T* base, T* y, Kept<T> kept) {
  const T mean = sum_of(sum_row<T>(width, [=](auto lanes, int64_t i) { return lanes.load(x + i); })) / T(width);
  const T squares = sum_of(sum_row<T>(width, [=](auto lanes, int64_t i) {
    Vec<T> d = lanes.load(x + i) - mean;
    lanes.clear_rest(d);
    return d * d;
  }));
  const T scale = 1 / std::sqrt(squares / T(width) + T(kNormEpsilon));
  for_row<T>(width, [=](auto lanes, int64_t i) {
    const Vec<T> normal = (lanes.load(x + i) - mean) * scale, scaled = lanes.load(gain + i) * normal;
    lanes.store(y + i, base ? scaled + lanes.load(base + i) : scaled);
    if (kept) kept.store(lanes, i, normal);
  });
  return scale;
}

// From the gradient of y that of x, in `out` (may be `grad`); adds to those of gain and bias.
template <class T>
void normalise_back(int64_t width, const T* grad, const T* gain, const T* normal, T scale, T* out, T* grad_gain, T* grad_bias) {
  const TwoSums<T> sums = sum_row<T>(width, [=](auto lanes, int64_t i) {
    const Vec<T> g = lanes.load(grad + i) * lanes.load(gain + i);
    return TwoSums<T>{g, g * lanes.load(normal + i)};
  });
  const T mean = sum_of(sums.first) / T(width) * scale, slope = sum_of(sums.second) / T(width) * scale;
  for_row<T>(width, [=](auto lanes, int64_t i) {
    const Vec<T> g = lanes.load(grad + i), n = lanes.load(normal + i);
    lanes.store(grad_gain + i, lanes.load(grad_gain + i) + g * n);
    lanes.store(grad_bias + i, lanes.load(grad_bias + i) + g);
    lanes.store(out + i, g * lanes.load(gain + i) * scale - mean - n * slope);
  });
}

}  // namespace deep_rnn

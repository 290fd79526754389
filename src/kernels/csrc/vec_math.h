// exp, tanh and sigmoid of whole vectors, to about two units in the last place; NaN in, NaN out.
#pragma once

#include "vec.h"

namespace deep_rnn {

template <class T>
struct ExpConstants;
template <>
struct ExpConstants<float> {
  static constexpr int mantissa = 23, bias = 127, degree = 7;
  static constexpr float round = 0x1.8p23f, lowest = -87.f, highest = 88.f;
  static constexpr float ln2_high = 6.9314575195e-1f, ln2_low = 1.4286067653e-6f;
};
template <>
struct ExpConstants<double> {
  static constexpr int mantissa = 52, bias = 1023, degree = 13;
  static constexpr double round = 0x1.8p52, lowest = -708., highest = 709.;
  static constexpr double ln2_high = 6.93147180369123816490e-1, ln2_low = 1.90821492927058770002e-10;
};

constexpr double inverse_factorial(int n) { return n < 2 ? 1. : inverse_factorial(n - 1) / n; }

// exp(x) == scale * (1 + fraction): both parts, because expm1 needs the fraction before the 1 swallows its digits.
template <class V>
struct ExpParts {
  V scale, fraction;
};

template <class V>
inline ExpParts<V> exp_parts(V x) {
  using T = ElementOf<V>;
  using C = ExpConstants<T>;
  using Bits = typename VecTypes<T>::Bits;
  x = x < C::lowest ? V{} + C::lowest : x;  // in this form a NaN stays a NaN
  x = x > C::highest ? V{} + C::highest : x;
  const V rounded = x * T(1.4426950408889634) + C::round;  // its low mantissa bits hold the exponent of 2 as an integer
  const V n = rounded - C::round;
  const V r = (x - n * C::ln2_high) - n * C::ln2_low;
  V p = V{} + T(inverse_factorial(C::degree));
#pragma GCC unroll 16
  for (int k = C::degree - 1; k >= 1; --k) p = p * r + T(inverse_factorial(k));
  const Bits exponent = ((Bits)rounded + ElementOf<Bits>(C::bias)) << C::mantissa;
  return {(V)exponent, p * r};
}

template <class V>
inline V exp(V x) {
  const auto e = exp_parts(x);
  return e.scale + e.scale * e.fraction;
}

template <class V>
inline V sigmoid(V x) {
  return ElementOf<V>(1) / (ElementOf<V>(1) + exp(-x));
}

// By expm1(-2|x|), so that small arguments keep all their digits.
template <class V>
inline V tanh(V x) {
  using Bits = typename VecTypes<ElementOf<V>>::Bits;
  const Bits sign = (Bits)x & (Bits)(-V{});
  const auto e = exp_parts(ElementOf<V>(-2) * (V)((Bits)x ^ sign));
  const V m = (e.scale - ElementOf<V>(1)) + e.scale * e.fraction;
  return (V)((Bits)(-m / (m + ElementOf<V>(2))) ^ sign);
}

template <class V>
inline V relu(V x) {
  return x < ElementOf<V>(0) ? V{} : x;  // not max(x, 0): a NaN stays a NaN
}

}  // namespace deep_rnn

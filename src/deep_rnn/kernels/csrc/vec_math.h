// exp, tanh and sigmoid of whole vectors, to about two units in the last place; NaN in, NaN out.
#pragma once

#include <array>

#include "vec.h"

namespace deep_rnn {

template <class T>
struct ExpConstants;
// (e^r - 1) / r, lowest power first, for |r| <= ln 2 / 2: of the polynomials that begin with 1 that of smallest relative
// error, 4e-9 of e^r.
template <>
struct ExpConstants<float> {
  static constexpr int mantissa = 23, bias = 127;
  static constexpr float round = 0x1.8p23f, lowest = -87.f, highest = 88.f;
  static constexpr float ln2_high = 6.9314575195e-1f, ln2_low = 1.4286067653e-6f;
  static constexpr std::array coefficients{1.f, 0x1.fffffcp-2f, 0x1.555492p-3f, 0x1.5558f2p-5f, 0x1.123a2p-7f, 0x1.6a23dp-10f};
};
// The first terms of its series: the next is below 1e-17.
template <>
struct ExpConstants<double> {
  static constexpr int mantissa = 52, bias = 1023;
  static constexpr double round = 0x1.8p52, lowest = -708., highest = 709.;
  static constexpr double ln2_high = 6.93147180369123816490e-1, ln2_low = 1.90821492927058770002e-10;
  static constexpr auto coefficients = [] {
    std::array<double, 13> terms{1.};
    for (size_t k = 1; k < terms.size(); ++k) terms[k] = terms[k - 1] / double(k + 1);
    return terms;
  }();
};

// A power of two, as scale(1), and how to multiply by it.
template <class V>
struct PowerOfTwo {
  using T = ElementOf<V>;
  using C = ExpConstants<T>;
#if defined(__AVX512F__)
  V n;
  // Of the whole number next to y.
  static PowerOfTwo nearest(V y) {
    if constexpr (sizeof(T) == 4)
      return {(V)_mm512_roundscale_ps((__m512)y, 8)};
    else
      return {(V)_mm512_roundscale_pd((__m512d)y, 8)};
  }
  V exponent() const { return n; }
  V scale(V x) const {
    if constexpr (sizeof(T) == 4)
      return (V)_mm512_scalef_ps((__m512)x, (__m512)n);
    else
      return (V)_mm512_scalef_pd((__m512d)x, (__m512d)n);
  }
#else
  V rounded;  // its low mantissa bits hold the exponent as an integer
  static PowerOfTwo nearest(V y) { return {y + C::round}; }
  V exponent() const { return rounded - C::round; }
  V scale(V x) const {
    using Bits = typename VecTypes<T>::Bits;
    return x * (V)(((Bits)rounded + ElementOf<Bits>(C::bias)) << C::mantissa);
  }
#endif
};

// exp(x) == power * (1 + fraction), for x within the constants' bounds: both parts, because expm1 needs the fraction before
// the 1 swallows its digits.
template <class V>
struct ExpParts {
  PowerOfTwo<V> power;
  V fraction;

  explicit ExpParts(V x) : power(PowerOfTwo<V>::nearest(x * ElementOf<V>(1.4426950408889634))) {
    using C = ExpConstants<ElementOf<V>>;
    const V n = power.exponent(), r = (x - n * C::ln2_high) - n * C::ln2_low;
    V p = V{} + C::coefficients.back();
#pragma GCC unroll 16
    for (int k = int(C::coefficients.size()) - 2; k >= 0; --k) p = p * r + C::coefficients[k];
    fraction = p * r;
  }
};

template <class V>
inline V exp(V x) {
  using C = ExpConstants<ElementOf<V>>;
  const ExpParts<V> e(at_most(at_least(x, C::lowest), C::highest));
  return e.power.scale(e.fraction + ElementOf<V>(1));
}

template <class V>
inline V sigmoid(V x) {
  return ElementOf<V>(1) / (ElementOf<V>(1) + exp(-x));
}

// By expm1(-2|x|), so that small arguments keep all their digits.
template <class V>
inline V tanh(V x) {
  using T = ElementOf<V>;
  using Bits = typename VecTypes<T>::Bits;
  const Bits sign = (Bits)x & (Bits)(-V{});
  const ExpParts<V> e(at_least(T(-2) * (V)((Bits)x ^ sign), ExpConstants<T>::lowest));
  const V one = V{} + T(1), scale = e.power.scale(one);
  const V m = (scale - one) + scale * e.fraction;
  return (V)((Bits)(-m / (m + T(2))) ^ sign);
}

template <class V>
inline V relu(V x) {
  return x < ElementOf<V>(0) ? V{} : x;  // not max(x, 0): a NaN stays a NaN
}

}  // namespace deep_rnn

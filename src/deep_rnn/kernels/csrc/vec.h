// Vector registers of float or double, as wide as the machine that compiles this has them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace deep_rnn {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
constexpr int kVectorRegisters = 32;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
constexpr int kVectorRegisters = 16;
#elif defined(__aarch64__)
constexpr int kVectorBytes = 16;
constexpr int kVectorRegisters = 32;
#else
constexpr int kVectorBytes = 16;
constexpr int kVectorRegisters = 16;
#endif

template <class T>
struct VecTypes;
template <>
struct VecTypes<float> {
  typedef float Real __attribute__((vector_size(kVectorBytes)));
  typedef uint32_t Bits __attribute__((vector_size(kVectorBytes)));
  typedef uint8_t Bytes __attribute__((vector_size(kVectorBytes / 4)));  // one a lane
};
template <>
struct VecTypes<double> {
  typedef double Real __attribute__((vector_size(kVectorBytes)));
  typedef uint64_t Bits __attribute__((vector_size(kVectorBytes)));
  typedef uint8_t Bytes __attribute__((vector_size(kVectorBytes / 8)));
};

template <class T>
using Vec = typename VecTypes<T>::Real;
template <class V>
using ElementOf = std::remove_cv_t<std::remove_reference_t<decltype(V{}[0])>>;
template <class T>
constexpr int kLanes = kVectorBytes / sizeof(T);

// The first `count` lanes of a vector: loads fill the others with zero, stores leave memory behind them alone.
template <class T>
class Lanes {
 public:
#if defined(__AVX512F__)
  // A masked access costs no more than a whole one here, so widths that are no multiple of the vector are free of branches.
  explicit Lanes(int64_t count) : mask_(count >= kLanes<T> ? Mask(~0) : Mask((1u << count) - 1)) {}

  Vec<T> load(const T* from) const {
    if constexpr (sizeof(T) == 4)
      return (Vec<T>)_mm512_maskz_loadu_ps(mask_, from);
    else
      return (Vec<T>)_mm512_maskz_loadu_pd(mask_, from);
  }
  void store(T* to, Vec<T> v) const {
    if constexpr (sizeof(T) == 4)
      _mm512_mask_storeu_ps(to, mask_, (__m512)v);
    else
      _mm512_mask_storeu_pd(to, mask_, (__m512d)v);
  }
  void clear_rest(Vec<T>& v) const {
    if constexpr (sizeof(T) == 4)
      v = (Vec<T>)_mm512_maskz_mov_ps(mask_, (__m512)v);
    else
      v = (Vec<T>)_mm512_maskz_mov_pd(mask_, (__m512d)v);
  }
  // Past the caches, where that can be done: what is read again only long after must not drive out what is needed now.
  void stream(T* to, Vec<T> v) const {
    if (mask_ != Mask(~0) || reinterpret_cast<uintptr_t>(to) % kVectorBytes)
      store(to, v);
    else
      _mm512_stream_si512(reinterpret_cast<__m512i*>(to), (__m512i)v);
  }

 private:
  using Mask = std::conditional_t<sizeof(T) == 4, __mmask16, __mmask8>;
  Mask mask_;
#else
  explicit Lanes(int64_t count) : count_(count < kLanes<T> ? int(count) : kLanes<T>) {}

  Vec<T> load(const T* from) const {
    Vec<T> v{};
    if (count_ == kLanes<T>)
      std::memcpy(&v, from, sizeof v);
    else
      for (int i = 0; i < count_; ++i) v[i] = from[i];
    return v;
  }
  void store(T* to, Vec<T> v) const {
    if (count_ == kLanes<T>)
      std::memcpy(to, &v, sizeof v);
    else
      for (int i = 0; i < count_; ++i) to[i] = v[i];
  }
  void clear_rest(Vec<T>& v) const {
    for (int i = count_; i < kLanes<T>; ++i) v[i] = 0;
  }
  void stream(T* to, Vec<T> v) const { store(to, v); }

 private:
  int count_;
#endif
};

// Makes what this thread has streamed visible to others before anything it does next.
inline void end_of_streams() {
#if defined(__AVX512F__)
  _mm_sfence();
#endif
}

template <class T>
Vec<T> load(const T* from) {
  Vec<T> v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

template <class T>
void store(T* to, Vec<T> v) {
  std::memcpy(to, &v, sizeof v);
}

// Calls f(lanes, unit) for every vector of a row; of whole ones the compiler knows it.
template <class T, class F>
void for_row(int64_t width, F f) {
  int64_t unit = 0;
  for (; unit + kLanes<T> <= width; unit += kLanes<T>) f(Lanes<T>(kLanes<T>), unit);
  if (unit < width) f(Lanes<T>(width - unit), unit);
}

// `yes` where one of `count` flags is set, else `no`.
template <class V>
V choose(const bool* flags, int64_t count, V yes, V no) {
  using Types = VecTypes<ElementOf<V>>;
  typename Types::Bytes bytes{};
  std::memcpy(&bytes, flags, std::min<size_t>(count, sizeof bytes));
  return __builtin_convertvector(bytes, typename Types::Bits) != 0 ? yes : no;
}

// The larger, or the smaller, of x and a bound; a NaN stays a NaN.
template <class V>
V at_least(V x, ElementOf<V> bound) {
#if defined(__AVX512F__)
  if constexpr (sizeof(ElementOf<V>) == 4)
    return (V)_mm512_max_ps((__m512)(V{} + bound), (__m512)x);  // of a NaN and anything these give the second
  else
    return (V)_mm512_max_pd((__m512d)(V{} + bound), (__m512d)x);
#else
  return x < bound ? V{} + bound : x;
#endif
}
template <class V>
V at_most(V x, ElementOf<V> bound) {
#if defined(__AVX512F__)
  if constexpr (sizeof(ElementOf<V>) == 4)
    return (V)_mm512_min_ps((__m512)(V{} + bound), (__m512)x);
  else
    return (V)_mm512_min_pd((__m512d)(V{} + bound), (__m512d)x);
#else
  return x > bound ? V{} + bound : x;
#endif
}

// The sum of all lanes, halves first.
template <class V>
ElementOf<V> sum_of(V v) {
  using T = ElementOf<V>;
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return _mm512_reduce_add_ps((__m512)v);
  else
    return _mm512_reduce_add_pd((__m512d)v);
#else
  for (int half = kLanes<T> / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) v[i] += v[i + half];
  return v[0];
#endif
}

}  // namespace deep_rnn

// Blocks of kLanes x kLanes turned about their diagonal, for the drivers that keep one row of the batch in each lane.
#pragma once

#include <algorithm>
#include <utility>

#include "vec.h"

namespace deep_rnn {

// The lower or upper halves of two vectors, lane by lane in turns.
#if defined(__clang__)
template <int kFirst, class V, int... i>
inline V interleaved(V a, V b, std::integer_sequence<int, i...>) {
  return __builtin_shufflevector(a, b, (kFirst + i / 2 + (i % 2) * int(sizeof...(i)))...);
}
template <class T, bool kUpper>
inline Vec<T> interleave(Vec<T> a, Vec<T> b) {
  return interleaved<kUpper ? kLanes<T> / 2 : 0>(a, b, std::make_integer_sequence<int, kLanes<T>>());
}
#else
template <class T, bool kUpper>
inline Vec<T> interleave(Vec<T> a, Vec<T> b) {
  constexpr int L = kLanes<T>;
  using Index = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  typedef Index Indices __attribute__((vector_size(kVectorBytes)));
  Indices from;
  for (int i = 0; i < L; ++i) from[i] = (kUpper ? L / 2 : 0) + i / 2 + (i % 2) * L;
  return __builtin_shuffle(a, b, from);
}
#endif

// In place: lane j of vector i becomes lane i of vector j. log2(lanes) rounds in which the two halves are interleaved.
template <class T>
inline void transpose(Vec<T> (&v)[kLanes<T>]) {
  constexpr int L = kLanes<T>;
#pragma GCC unroll 4
  for (int round = 1; round < L; round *= 2) {
    Vec<T> next[L];
#pragma GCC unroll 8
    for (int i = 0; i < L / 2; ++i) {
      next[2 * i] = interleave<T, false>(v[i], v[i + L / 2]);
      next[2 * i + 1] = interleave<T, true>(v[i], v[i + L / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < L; ++i) v[i] = next[i];
  }
}

// Lines of `width` elements, one a row of the batch (at most kLanes), become `width` vectors with one row in each lane.
template <class T>
inline void to_lanes(const T* const* lines, int64_t rows, int64_t width, T* out, int64_t stride) {
  constexpr int L = kLanes<T>;
  for (int64_t first = 0; first < width; first += L) {
    const int64_t count = std::min<int64_t>(L, width - first);
    const Lanes<T> lanes(count);
    Vec<T> v[L] = {};
#pragma GCC unroll 16
    for (int r = 0; r < L; ++r)
      if (r < rows) v[r] = lanes.load(lines[r] + first);
    transpose<T>(v);
#pragma GCC unroll 16
    for (int i = 0; i < L; ++i)
      if (i < count) store(out + (first + i) * stride, v[i]);
  }
}

// The way back.
template <class T>
inline void from_lanes(const T* vectors, int64_t rows, int64_t width, T* const* lines) {
  constexpr int L = kLanes<T>;
  for (int64_t first = 0; first < width; first += L) {
    const int64_t count = std::min<int64_t>(L, width - first);
    const Lanes<T> lanes(count);
    Vec<T> v[L] = {};
#pragma GCC unroll 16
    for (int i = 0; i < L; ++i)
      if (i < count) v[i] = load(vectors + (first + i) * L);
    transpose<T>(v);
#pragma GCC unroll 16
    for (int r = 0; r < L; ++r)
      if (r < rows) lanes.store(lines[r] + first, v[r]);
  }
}

}  // namespace deep_rnn

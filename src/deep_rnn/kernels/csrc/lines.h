// Products of many lines with one packed matrix, a block of lines at a time.
#pragma once

#include "pass.h"

namespace deep_rnn {

// Calls f(first, last) for blocks of lines, side by side.
template <class F>
void for_blocks(int64_t count, int64_t lines, const Parallel& parallel, F f) {
  parallel.run((count + lines - 1) / lines, [&](int64_t i) { f(i * lines, std::min((i + 1) * lines, count)); });
}

// Lines [first, last), kEntriesTogether at most, of `from` times a matrix, to those of `to`.
template <class T>
void multiply_lines(Lines<const T> from, Lines<T> to, int64_t first, int64_t last, const Packed<T>& matrix, Start start,
                    const T* bias = nullptr) {
  const T* rows[kEntriesTogether];
  T* results[kEntriesTogether];
  for (int64_t k = first; k < last; ++k) rows[k - first] = from.at(k), results[k - first] = to.at(k);
  multiply(rows, results, last - first, matrix, start, bias);
}

}  // namespace deep_rnn

// Products of a few rows with a member's part of a weight. Where there are few of them in all, the weight is read as it lies in
// the caller's memory: packing it would cost more than it saves.
#pragma once

#include "product.h"
#include "team.h"

namespace deep_rnn {

// out[r][j] += the sum over k of rows[r][k] * w[j][k], for Lines lines of w from j on, given as `line`.
template <int Rows, int Lines, class T>
void multiply_block(const T* const* rows, const T* line, int64_t depth, T* const* out, int64_t j) {
  constexpr int L = kLanes<T>;
  Vec<T> sum[Lines][Rows] = {};
  const auto add = [&](auto load_at) {
    Vec<T> h[Rows];
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) h[r] = load_at(rows[r]);
#pragma GCC unroll 8
    for (int i = 0; i < Lines; ++i) {
      const Vec<T> w = load_at(line + i * depth);
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) sum[i][r] += w * h[r];
    }
  };
  int64_t k = 0;
  for (; k + L <= depth; k += L) add([=](const T* from) { return load(from + k); });
  if (k < depth) add([=](const T* from) { return Lanes<T>(depth - k).load(from + k); });
#pragma GCC unroll 8
  for (int i = 0; i < Lines; ++i)
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) out[r][j + i] += sum_of(sum[i][r]);
}

// Adds to out[r][j], j in [first, last), the sum over k of rows[r][k] * w[j][k].
template <class T>
void multiply_by_lines(const T* const* rows, int64_t count, const T* w, int64_t depth, int64_t first, int64_t last, T* const* out) {
  constexpr int kLines = kVectorRegisters >= 32 ? 8 : 4, kTogether = 2;
  for (int64_t j = first; j < last; j += kLines)
    with_constant<kLines>(last - j, [&](auto lines) {
      for (int64_t r = 0; r < count; r += kTogether)
        with_constant<kTogether>(count - r, [&](auto n) { multiply_block<n, lines>(rows + r, w + j * depth, depth, out + r, j); });
    });
}

// out[r][u] += the sum over Lines lines j of factors[r][j] * w[j][u], for Vectors vectors of columns u; the last with `lanes`.
template <int Lines, int Vectors, class T>
void add_lines(const T* const* factors, int64_t rows, int64_t j, const T* w, int64_t width, Lanes<T> lanes, T* const* out, int64_t u) {
  constexpr int L = kLanes<T>;
  const auto load_at = [=](const T* from, int v) { return v + 1 < Vectors ? load(from + v * L) : lanes.load(from + v * L); };
  Vec<T> line[Lines][Vectors];
#pragma GCC unroll 8
  for (int i = 0; i < Lines; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) line[i][v] = load_at(w + i * width, v);
  for (int64_t r = 0; r < rows; ++r) {
    const T* factor = factors[r] + j;
    T* to = out[r] + u;
    Vec<T> sum[Vectors];
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) sum[v] = load_at(to, v);
#pragma GCC unroll 8
    for (int i = 0; i < Lines; ++i)
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; ++v) sum[v] += factor[i] * line[i][v];
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) v + 1 < Vectors ? store(to + v * L, sum[v]) : lanes.store(to + v * L, sum[v]);
  }
}

// Adds to out[r][u], u in [first, last), the sum over j < depth of factors[r][j] * w[j][u]; lines of w are `width` long.
template <class T>
void multiply_by_columns(const T* const* factors, int64_t rows, const T* w, int64_t depth, int64_t width, int64_t first, int64_t last,
                         T* const* out) {
  constexpr int kLines = kVectorRegisters >= 32 ? 8 : 4, kVectors = 2;
  for (int64_t j = 0; j < depth; j += kLines)
    with_constant<kLines>(depth - j, [&](auto lines) {
      for (int64_t u = first; u < last; u += kVectors * kLanes<T>)
        with_constant<kVectors>(whole_vectors<T>(last - u), [&](auto vectors) {
          const Lanes<T> rest(last - u - (vectors - 1) * kLanes<T>);
          add_lines<lines, vectors>(factors, rows, j, w + j * width + u, width, rest, out, u);
        });
    });
}

// A member's part of a weight [gates * H, depth]: of each gate the lines of its own units.
template <class T>
class OwnLines {
 public:
  OwnLines(const T* w, int gates, int64_t hidden, int64_t depth, Share own, bool packs)
      : w_(w), gates_(gates), hidden_(hidden), depth_(depth), own_(own) {
    for (int gate = 0; packs && gate < gates; ++gate) {
      packed_.emplace_back(depth, own.size());
      for (int64_t tile = 0; tile < packed_[gate].tiles(); ++tile)
        packed_[gate].pack_tile(tile, w + (gate * hidden + own.first) * depth, 1, depth);
    }
  }

  // Adds to out[r][i], for its lines i, the sum over k of rows[r][k] * w[i][k].
  void multiply_add(const T* const* rows, int64_t count, T* const* out) const {
    std::vector<T*> to(count);
    for (int gate = 0; gate < gates_; ++gate) {
      const int64_t first = gate * hidden_ + own_.first;
      if (packed_.empty()) {
        multiply_by_lines(rows, count, w_, depth_, first, first + own_.size(), out);
        continue;
      }
      for (int64_t r = 0; r < count; ++r) to[r] = out[r] + first;
      multiply(rows, to.data(), count, packed_[gate], Start::out);
    }
  }

 private:
  const T* w_;
  int gates_;
  int64_t hidden_, depth_;
  Share own_;
  std::vector<Packed<T>> packed_;
};

// A member's columns of a weight [depth, width].
template <class T>
class OwnColumns {
 public:
  OwnColumns(const T* w, int64_t depth, int64_t width, Share own, bool packs)
      : w_(w), depth_(depth), width_(width), own_(own), packs_(packs), packed_(packs ? depth : 0, own.size()) {
    for (int64_t tile = 0; packs && tile < packed_.tiles(); ++tile) packed_.pack_tile(tile, w + own.first, width, 1);
  }

  // Adds to out[r][u], for its columns u, the sum over j of factors[r][j] * w[j][u].
  void multiply_add(const T* const* factors, int64_t count, T* const* out) const {
    if (!packs_) return multiply_by_columns(factors, count, w_, depth_, width_, own_.first, own_.last, out);
    std::vector<T*> to(count);
    for (int64_t r = 0; r < count; ++r) to[r] = out[r] + own_.first;
    multiply(factors, to.data(), count, packed_, Start::out);
  }

 private:
  const T* w_;
  int64_t depth_, width_;
  Share own_;
  bool packs_;
  Packed<T> packed_;
};

}  // namespace deep_rnn

// Matrix products for few rows at a time and a matrix that is packed once and used at every step.
//
// Both kinds share one inner loop, which keeps a tile of kTileRows x kTileVectors sums in registers.
//   multiply       out[r] = bias + row[r] * M      many small calls: the recurrent product, projections
//   outer_sums     out = sum_k a[k]^T b[k]         one large call: the gradients of weights
#pragma once

#include <algorithm>
#include <utility>

#include "memory.h"
#include "transpose.h"

namespace deep_rnn {

constexpr int kTileRows = kVectorRegisters >= 32 ? 8 : 4;
constexpr int kTileVectors = 3;
template <class T>
constexpr int64_t kTileWidth = kTileVectors * kLanes<T>;

template <class T>
constexpr int64_t whole_vectors(int64_t width) {
  return (width + kLanes<T> - 1) / kLanes<T>;
}

// A matrix [depth, width] as column tiles, each [depth][its vectors], in the order in which the product reads it.
template <class T>
class Packed {
 public:
  Packed(int64_t depth, int64_t width)
      : depth_(depth), width_(width), data_(depth * whole_vectors<T>(width) * kLanes<T>) {}

  int64_t depth() const { return depth_; }
  int64_t bytes() const { return depth_ * whole_vectors<T>(width_) * kLanes<T> * int64_t(sizeof(T)); }
  int64_t tiles() const { return (width_ + kTileWidth<T> - 1) / kTileWidth<T>; }
  T* tile(int64_t index) const { return data_.get() + tile_column(index) * depth_; }
  int64_t tile_width(int64_t index) const { return (index + 1 < tiles() ? tile_column(index + 1) : width_) - tile_column(index); }
  // Of the vectors that are left for the last tile a single one, which would wait for its own sums, gets one from the tile
  // before (4 % off forward and backward of an LSTM of 64).
  int64_t tile_column(int64_t index) const {
    const bool thin = index > 0 && index + 1 == tiles() && width_ - index * kTileWidth<T> <= kLanes<T>;
    return index * kTileWidth<T> - (thin ? kLanes<T> : 0);
  }

  // Fills one tile with m[k * row_stride + n * column_stride], one of the strides being 1; different threads may fill
  // different tiles.
  void pack_tile(int64_t index, const T* m, int64_t row_stride, int64_t column_stride) const {
    m += tile_column(index) * column_stride;
    const int64_t width = tile_width(index), padded = whole_vectors<T>(width) * kLanes<T>;
    if (row_stride == 1) {
      for (int64_t n = 0; n < padded; n += kLanes<T>) {
        const T* lines[kLanes<T>];
        for (int64_t i = 0; i < kLanes<T> && n + i < width; ++i) lines[i] = m + (n + i) * column_stride;
        to_lanes(lines, std::min<int64_t>(kLanes<T>, width - n), depth_, tile(index) + n, padded);
      }
      return;
    }
    for (int64_t k = 0; k < depth_; ++k) {
      T* to = tile(index) + k * padded;
      const T* from = m + k * row_stride;
      for_row<T>(width, [=](auto lanes, int64_t n) { store(to + n, lanes.load(from + n)); });
    }
  }

  // Fills all tiles from line(k), the address of line k.
  template <class Line>
  void pack_lines(Line line) const {
    for (int64_t k = 0; k < depth_; ++k) {
      const T* from = line(k);
      for (int64_t j = 0; j < tiles(); ++j) {
        const int64_t width = tile_width(j);
        const T* part = from + tile_column(j);
        T* to = tile(j) + k * whole_vectors<T>(width) * kLanes<T>;
        for_row<T>(width, [=](auto lanes, int64_t n) { store(to + n, lanes.load(part + n)); });
      }
    }
  }

 private:
  int64_t depth_, width_;
  Buffer<T> data_;
};

enum class Start { zero, bias, out };  // what the sums of a product start from

// Memory that will be read after a product, or late in it: asked for piece by piece meanwhile, it arrives while there is
// something to do. All at once it would be waited for.
template <class T>
struct Ahead {
  const T* from = nullptr;
  int64_t vectors = 0;

  // The next `most` vectors, or what is left.
  Ahead take(int64_t most) {
    const Ahead part{from, std::min(most, vectors)};
    from += part.vectors * kLanes<T>, vectors -= part.vectors;
    return part;
  }
};

// The sums of Rows x Vectors: factor(r, k) times vector v of the tile's line k. If Fetches, asks for a vector of `ahead` with
// every line.
template <int Rows, int Vectors, bool Fetches = false, class T, class Factor>
void multiply_tile(Factor factor, const T* tile, int64_t depth, Start start, const T* bias, T* const* out, int64_t column,
                   int64_t width, Ahead<T> ahead = {}) {
  constexpr int L = kLanes<T>;
  const Lanes<T> last(width - (Vectors - 1) * L);
  Vec<T> sum[Rows][Vectors] = {};
  if (start != Start::zero) {
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) {
        const T* from = (start == Start::bias ? bias : out[r]) + column + v * L;
        sum[r][v] = v + 1 < Vectors ? load(from) : last.load(from);
      }
  }
  for (int64_t k = 0; k < depth; ++k) {
    if (Fetches) __builtin_prefetch(ahead.from + std::min(k, ahead.vectors - 1) * L);
    Vec<T> m[Vectors];
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) m[v] = load(tile + (k * Vectors + v) * L);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) sum[r][v] += factor(r, k) * m[v];
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      T* to = out[r] + column + v * L;
      if (v + 1 < Vectors)
        store(to, sum[r][v]);
      else
        last.store(to, sum[r][v]);
    }
}

// Rows of factors that lie one behind the other, in memory of the caller.
template <class T>
struct RowFactors {
  T operator()(int r, int64_t k) const { return rows[r][first + k]; }
  const T* const* rows;
  int64_t first;
};

// Lines that lie a stride apart.
template <class T>
struct Lines {
  T* data;
  int64_t stride;

  T* at(int64_t line) const { return data + line * stride; }
};

// Factors packed for one tile: [depth][kTileRows].
template <class T>
struct PackedFactors {
  T operator()(int r, int64_t k) const { return from[k * kTileRows + r]; }
  const T* from;
};

// A stride for lines of `width` elements whose columns are read: an odd number of cache lines, so that these do not all compete
// for a few places of the cache (1 to 2 % off the backward pass of an LSTM).
template <class T>
constexpr int64_t column_stride(int64_t width) {
  constexpr int64_t kLine = 64 / sizeof(T);
  return ((width + kLine - 1) / kLine | 1) * kLine;
}

// Calls f with n, of 1 ... Most, as a compile-time constant.
template <int Most, class F>
void with_constant(int64_t n, F f) {
  if constexpr (Most > 1)
    if (n < Most) return with_constant<Most - 1>(n, f);
  f(std::integral_constant<int, Most>{});
}

constexpr int64_t kMostDepth = 1024;  // lines of a tile for which it stays in a core's cache, beside the rows

// The sums of one tile for all rows, in even blocks, so that none is thin; see multiply.
template <int Vectors, class T>
void multiply_rows(const T* const* rows, T* const* out, int64_t count, int64_t from, const T* tile, int64_t lines, Start start,
                   const T* bias, int64_t column, int64_t width, Ahead<T>& ahead) {
  const int64_t blocks = (count + kTileRows - 1) / kTileRows, each = count / blocks, larger = count % blocks;
  for (int64_t b = 0, first = 0; b < blocks; ++b) {
    const int64_t size = each + (b < larger);
    with_constant<kTileRows>(size, [&](auto n) {
      const RowFactors<T> factors{rows + first, from};
      if (ahead.vectors > 0)
        multiply_tile<n, Vectors, true>(factors, tile, lines, start, bias, out + first, column, width, ahead.take(lines));
      else
        multiply_tile<n, Vectors>(factors, tile, lines, start, bias, out + first, column, width);
    });
    first += size;
  }
}

// out[r] = start + rows[r] * matrix. Blocks of rows are the inner loop: what they read of the matrix stays in the near caches
// for all of them. Of a matrix that does not fit a core's cache the first blocks fetch the part that comes next (8 to 13 % off
// the time of 32 to 128 rows by 1024 x 4096) instead of what the caller wants fetched.
template <class T>
void multiply(const T* const* rows, T* const* out, int64_t count, const Packed<T>& matrix, Start start, const T* bias = nullptr,
              Ahead<T> ahead = {}) {
  if (count == 0) return;
  const int64_t depth = matrix.depth(), parts = std::max<int64_t>(1, (depth + kMostDepth - 1) / kMostDepth);
  const bool fetches = matrix.bytes() > kCacheBytes;
  for (int64_t tile = 0; tile < matrix.tiles(); ++tile) {
    const int64_t width = matrix.tile_width(tile), column = matrix.tile_column(tile);
    with_constant<kTileVectors>(whole_vectors<T>(width), [&](auto vectors) {
      for (int64_t p = 0; p < parts; ++p) {
        const int64_t from = depth * p / parts, lines = depth * (p + 1) / parts - from;
        const T *part = matrix.tile(tile) + from * vectors * kLanes<T>, *next = part + lines * vectors * kLanes<T>;
        const bool is_last = tile + 1 == matrix.tiles() && p + 1 == parts;
        if (fetches) ahead = {is_last ? matrix.tile(0) : next, lines * vectors};
        multiply_rows<vectors>(rows, out, count, from, part, lines, p ? Start::out : start, bias, column, width, ahead);
      }
    });
  }
}

// Where an outer sum goes: out [.., width], and the lines of its right side.
template <class T, class Line>
struct OuterSum {
  Line line;
  int64_t width;
  T* out;
};
template <class T, class Line>
OuterSum(Line, int64_t, T*) -> OuterSum<T, Line>;

// Where part i of n of an outer sum's lines [0, count) begins: between two of its tiles.
inline int64_t border(int64_t i, int64_t n, int64_t count) { return i == n ? count : count * i / n / kTileRows * kTileRows; }

// Adds to out[i], for i in [first, last), the sum over k < count of a(k)[i].
template <class T>
void add_column_sums(int64_t count, Lines<const T> a, int64_t first, int64_t last, T* out) {
  for_row<T>(last - first, [=](auto lanes, int64_t i) {
    constexpr int kSums = 4;  // else every sum would wait for the one before
    Vec<T> sums[kSums]{};
    int64_t k = 0;
    for (; k + kSums <= count; k += kSums)
#pragma GCC unroll 4
      for (int s = 0; s < kSums; ++s) sums[s] += lanes.load(a.at(k + s) + first + i);
    for (; k < count; ++k) sums[0] += lanes.load(a.at(k) + first + i);
    T* to = out + first + i;
    lanes.store(to, lanes.load(to) + ((sums[0] + sums[1]) + (sums[2] + sums[3])));
  });
}

// Adds to lines [first, last) of each out[i][j] the sum over k < count of a(k)[i] * line(k)[j], to bias[i] (if not null) that
// of a(k)[i].
template <class T, class... Line>
void add_outer_sums(int64_t count, Lines<const T> a, int64_t first, int64_t last, T* bias, const OuterSum<T, Line>&... sums) {
  constexpr int64_t kPanel = 1 << 17;  // elements of the right sides packed at a time: half of a 1 MB cache in float
  constexpr int64_t kLeast = 128, kMost = 512;  // lines of them: with fewer, what is added to is read and written too often
  const int64_t depth = std::clamp(kPanel / std::max<int64_t>((sums.width + ...), 1), kLeast, kMost);
  const int64_t widths[] = {sums.width...};
  T* const outs[] = {sums.out...};
  const Buffer<T> factors(depth * kTileRows);
  for (int64_t done = 0; done < count; done += depth) {
    const int64_t lines = std::min(depth, count - done);
    const Lines<const T> left{a.at(done), a.stride};
    const auto packed = [&](const auto& sum) {
      Packed<T> panel(lines, sum.width);
      panel.pack_lines([&](int64_t k) { return sum.line(done + k); });
      return panel;
    };
    const Packed<T> panels[] = {packed(sums)...};
    if (bias) add_column_sums(lines, left, first, last, bias);
    for (int64_t i = first; i < last; i += kTileRows)
      with_constant<kTileRows>(last - i, [&](auto n) {
        T* to[n];
        for (int64_t k = 0; k < lines; ++k) std::copy_n(left.at(k) + i, n, factors.get() + k * kTileRows);
        for (size_t p = 0; p < sizeof...(Line); ++p) {
          for (int r = 0; r < n; ++r) to[r] = outs[p] + (i + r) * widths[p];
          for (int64_t tile = 0; tile < panels[p].tiles(); ++tile) {
            const int64_t width = panels[p].tile_width(tile);
            with_constant<kTileVectors>(whole_vectors<T>(width), [&](auto vectors) {
              multiply_tile<n, vectors>(PackedFactors<T>{factors.get()}, panels[p].tile(tile), lines, Start::out,
                                        static_cast<const T*>(nullptr), to, panels[p].tile_column(tile), width);
            });
          }
        }
      });
  }
}

// Lines [first, last) of each out[i][j] = sum over k < count of a(k)[i] * line(k)[j], and of bias[i] = sum of a(k)[i] (if
// not null).
template <class T, class... Line>
void outer_sums(int64_t count, Lines<const T> a, int64_t first, int64_t last, T* bias, const OuterSum<T, Line>&... sums) {
  (std::fill(sums.out + first * sums.width, sums.out + last * sums.width, T(0)), ...);
  if (bias) std::fill(bias + first, bias + last, T(0));
  add_outer_sums(count, a, first, last, bias, sums...);
}

}  // namespace deep_rnn

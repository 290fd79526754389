// What a cell is as data, for what works on any cell, and where things lie in the line that an entry saves.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cells.h"

namespace deep_rnn {

constexpr int kMostStates = 8, kMostVectors = 3, kMostGroups = 2, kMostConstants = 3;

struct CellShape {
  int inputs, products, states, activations, sources, middle_products;
  bool additive, reads_x;
  Middle middle;
  const char *matrix, *middle_matrix;
  int vectors, groups;
  const char* vector_names[kMostVectors];
  int norm_groups[kMostGroups];

  int projected() const { return inputs - reads_x; }  // input blocks that W_ih gives
  int all_products() const { return products + middle_products; }
  int middle_at() const { return additive ? products : 0; }  // the input block that the second product is added to
};

template <class Cell>
constexpr CellShape shape_of() {
  static_assert(Cell::states <= kMostStates && Cell::vectors.size() <= kMostVectors && Cell::norm_groups.size() <= kMostGroups);
  CellShape shape{Cell::inputs,   Cell::products, Cell::states, std::max(Cell::inputs, Cell::saved), Cell::sources,
                  Cell::middle_products, Cell::additive, Cell::reads_x, Cell::middle, Cell::matrix, Cell::middle_matrix,
                  int(Cell::vectors.size()), int(Cell::norm_groups.size()), {}, {}};
  std::copy(Cell::vectors.begin(), Cell::vectors.end(), shape.vector_names);
  std::copy(Cell::norm_groups.begin(), Cell::norm_groups.end(), shape.norm_groups);
  return shape;
}

// The line of an entry, in elements: for every level (transition within the step) its activations, which take the place
// of its gate inputs, the state before it, what stands in its middle, and its products as layer norm left them; then
// the normalised input product, and one over the deviation of all that was normalised.
struct Layout {
  int64_t prev, middle, normed, level;  // within a level; its size
  int64_t normed_inputs, scales, size;

  Layout(const CellShape& cell, int64_t hidden, int64_t levels, bool norms_inputs, bool norms_products)
      : prev(cell.activations * hidden),
        middle(prev + cell.states * hidden),
        normed(middle + (cell.middle != Middle::none) * hidden),
        level(normed + norms_products * cell.all_products() * hidden),
        normed_inputs(levels * level),
        scales(normed_inputs + norms_inputs * cell.inputs * hidden),
        size(scales + whole_lines(norms_inputs * kMostGroups + levels * level_scales(cell, norms_products))),
        level_scales_(level_scales(cell, norms_products)),
        first_level_scale_(scales + norms_inputs * kMostGroups) {}

  int64_t scale(int64_t level, int64_t group) const { return first_level_scale_ + level * level_scales_ + group; }
  int64_t middle_scale(int64_t level) const { return scale(level, level_scales_ - 1); }

 private:
  static int64_t level_scales(const CellShape& cell, bool norms_products) {
    return norms_products * kMostGroups + (cell.middle == Middle::norm);
  }
  // In full cache lines, so that a few scales do not shift the next entry across two of them.
  static int64_t whole_lines(int64_t count) { return (count + 15) / 16 * 16; }
  int64_t level_scales_, first_level_scale_;
};

}  // namespace deep_rnn

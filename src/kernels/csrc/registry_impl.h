// The table behind find_cell: a new cell is a functor in cells.h and a line here.
#pragma once

#include <cstring>

#include "backward.h"
#include "cells.h"
#include "forward.h"
#include "narrow.h"
#include "registry.h"

namespace deep_rnn {

template <class Cell, class T>
void forward_of(const std::vector<Forward<T>>& passes, const Parallel& parallel) {
  (!passes.empty() && is_narrow(passes[0]) ? forward_narrow<Cell, T> : forward<Cell, T>)(passes, parallel);
}

template <class Cell, class T>
void backward_of(const std::vector<Backward<T>>& passes, const Parallel& parallel) {
  (!passes.empty() && is_narrow(passes[0]) ? backward_narrow<Cell, T> : backward<Cell, T>)(passes, parallel);
}

template <class T, class Cell>
constexpr CellKernel<T> cell_kernel(const char* name) {
  static_assert(Cell::states <= kMostStates);
  return {name, Cell::inputs, Cell::products, Cell::states, kSavedBlocks<Cell>, forward_of<Cell, T>, backward_of<Cell, T>};
}

template <class T>
const CellKernel<T>* find_cell(const char* name) {
  static constexpr CellKernel<T> kernels[] = {
      cell_kernel<T, Rnn<false>>("rnn_tanh"),
      cell_kernel<T, Rnn<true>>("rnn_relu"),
      cell_kernel<T, Lstm>("lstm"),
      cell_kernel<T, Gru>("gru"),
  };
  for (const auto& kernel : kernels)
    if (!std::strcmp(kernel.name, name)) return &kernel;
  return nullptr;
}

}  // namespace deep_rnn

// The table behind find_cell: a new cell is a functor in cells.h or one of its companions, and a line here.
#pragma once

#include <cstring>

#include "backward.h"
#include "cells.h"
#include "elementwise_cells.h"
#include "forward.h"
#include "gated_cells.h"
#include "narrow.h"
#include "registry.h"
#include "walk_back.h"

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
constexpr WalkedCell<T> kWalked = {shape_of<Cell>(), row_functions<Cell, T>()};

// A cell for the walk, which does everything.
template <class T, class Cell>
constexpr CellKernel<T> walked(const char* name) {
  return {name, shape_of<Cell>(),
          [](const std::vector<Forward<T>>& passes, const Parallel& parallel) { walk_forward(kWalked<T, Cell>, passes, parallel); },
          [](const std::vector<Backward<T>>& passes, const Parallel& parallel) { walk_backward(kWalked<T, Cell>, passes, parallel); }};
}

// A cell for the plain drivers, where nothing is asked for that it does not do.
template <class T, class Cell>
constexpr CellKernel<T> plain(const char* name) {
  return {name, shape_of<Cell>(),
          [](const std::vector<Forward<T>>& passes, const Parallel& parallel) {
            if (passes.empty() || passes[0].walks()) return walk_forward(kWalked<T, Cell>, passes, parallel);
            forward_of<Cell>(passes, parallel);
          },
          [](const std::vector<Backward<T>>& passes, const Parallel& parallel) {
            if (passes.empty() || passes[0].walks()) return walk_backward(kWalked<T, Cell>, passes, parallel);
            backward_of<Cell>(passes, parallel);
          }};
}

template <class T>
const CellKernel<T>* find_cell(const char* name) {
  static constexpr CellKernel<T> kernels[] = {
      plain<T, Rnn<false>>("rnn_tanh"),
      plain<T, Rnn<true>>("rnn_relu"),
      plain<T, Lstm>("lstm"),
      plain<T, Gru>("gru"),
      walked<T, IndRnn<false>>("indrnn_tanh"),
      walked<T, IndRnn<true>>("indrnn_relu"),
      walked<T, Sru<false>>("sru"),
      walked<T, Sru<true>>("sru_same_width"),
      walked<T, FoPool<1>>("fo_pool"),
      walked<T, FoPool<2>>("fo_pool_2"),
      walked<T, FoPool<3>>("fo_pool_3"),
      walked<T, MinGru<false>>("mingru"),
      walked<T, MinGru<true>>("mingru_positive"),
      walked<T, MinLstm<false>>("minlstm"),
      walked<T, MinLstm<true>>("minlstm_positive"),
      walked<T, Peephole>("peephole"),
      walked<T, Cifg>("cifg"),
      walked<T, Janet>("janet"),
      walked<T, Ugrnn>("ugrnn"),
      walked<T, LightGru>("ligru"),
      walked<T, Rhn>("rhn"),
      walked<T, Antisymmetric<false>>("antisymmetric"),
      walked<T, Antisymmetric<true>>("antisymmetric_gated"),
      walked<T, CoRnn>("cornn"),
      walked<T, GruBefore>("gru_before"),
      walked<T, Mgu>("mgu"),
      walked<T, Lem>("lem"),
      walked<T, MultiplicativeLstm>("mlstm"),
      walked<T, NormedRnn<false>>("rnn_tanh_norm"),
      walked<T, NormedRnn<true>>("rnn_relu_norm"),
      walked<T, NormedLstm>("lstm_norm"),
  };
  for (const auto& kernel : kernels)
    if (!std::strcmp(kernel.name, name)) return &kernel;
  return nullptr;
}

}  // namespace deep_rnn

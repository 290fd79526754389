// The table behind find_cell: a new cell is a functor in cells.h or one of its companions, and a line here.
#pragma once

#include <cstring>
#include <optional>

#include "backward.h"
#include "cells.h"
#include "elementwise_cells.h"
#include "few.h"
#include "forward.h"
#include "gated_cells.h"
#include "narrow.h"
#include "registry.h"
#include "walk_back.h"

namespace deep_rnn {

template <class T, class Cell>
constexpr WalkedCell<T> kWalked = {shape_of<Cell>(), row_functions<Cell, T>()};

template <class Cell, class T>
void forward_walked(const Layers<Forward<T>>& layers, const Parallel& parallel) {
  for (const auto& passes : layers) walk_forward(kWalked<T, Cell>, passes, parallel);
}

template <class Cell, class T>
void backward_walked(const Layers<Backward<T>>& layers, const Parallel& parallel) {
  for (auto passes = layers.rbegin(); passes != layers.rend(); ++passes) walk_backward(kWalked<T, Cell>, *passes, parallel);
}

// Whether the plain drivers can run the layers, or something is asked for that only the walk does.
template <class PassType>
bool are_plain(const Layers<PassType>& layers) {
  return !layers[0].empty() && !layers[0][0].walks();
}

enum class Driver { plain, narrow, few };

// What runs a layer best. The answer may differ from forward to backward, but for narrow layers: those save what they need in
// their own way.
template <class Cell, class PassType>
Driver driver_of(const std::vector<PassType>& passes, const Parallel& parallel) {
  if (is_narrow(passes[0])) return Driver::narrow;
  return are_few<Cell>(passes, parallel) ? Driver::few : Driver::plain;
}

// The driver of all layers, if they have one in common.
template <class Cell, class PassType>
std::optional<Driver> driver_of_all(const Layers<PassType>& layers, const Parallel& parallel) {
  const Driver first = driver_of<Cell>(layers[0], parallel);
  for (const auto& passes : layers)
    if (driver_of<Cell>(passes, parallel) != first) return std::nullopt;
  return first;
}

template <class Cell, class T>
void forward_of(const Layers<Forward<T>>& layers, const Parallel& parallel) {
  if (!are_plain(layers)) return forward_walked<Cell>(layers, parallel);
  const auto driver = driver_of_all<Cell>(layers, parallel);
  if (driver == Driver::narrow) return forward_narrow<Cell>(layers, parallel);
  if (driver == Driver::few) return forward_few<Cell>(layers, parallel);
  if (driver == Driver::plain) return forward<Cell>(layers, parallel);
  for (const auto& passes : layers) forward_of<Cell, T>({passes}, parallel);
}

template <class Cell, class T>
void backward_of(const Layers<Backward<T>>& layers, const Parallel& parallel) {
  if (!are_plain(layers)) return backward_walked<Cell>(layers, parallel);
  const auto driver = driver_of_all<Cell>(layers, parallel);
  if (driver == Driver::narrow) return backward_narrow<Cell>(layers, parallel);
  if (driver == Driver::few) return backward_few<Cell>(layers, parallel);
  if (driver == Driver::plain) return backward<Cell>(layers, parallel);
  for (auto passes = layers.rbegin(); passes != layers.rend(); ++passes) backward_of<Cell, T>({*passes}, parallel);
}

// A cell for the walk, which does everything.
template <class T, class Cell>
constexpr CellKernel<T> walked(const char* name) {
  return {name, shape_of<Cell>(), forward_walked<Cell, T>, backward_walked<Cell, T>};
}

// A cell for the plain drivers, where nothing is asked for that they do not do.
template <class T, class Cell>
constexpr CellKernel<T> plain(const char* name) {
  return {name, shape_of<Cell>(), forward_of<Cell, T>, backward_of<Cell, T>};
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

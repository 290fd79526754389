// The cells by name, with what a caller must know of each.
#pragma once

#include "pass.h"

namespace deep_rnn {

template <class T>
struct CellKernel {
  const char* name;
  CellShape shape;
  void (*forward)(const Layers<Forward<T>>&, const Parallel&);    // at least one layer
  void (*backward)(const Layers<Backward<T>>&, const Parallel&);  // from the top down
};

// Null if there is none of that name. Compiled for float and for double, in a file each.
template <class T>
const CellKernel<T>* find_cell(const char* name);

}  // namespace deep_rnn

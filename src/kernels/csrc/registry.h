// The cells by name, with what a caller must know of each.
#pragma once

#include "pass.h"

namespace deep_rnn {

template <class T>
struct CellKernel {
  const char* name;
  CellShape shape;
  void (*forward)(const std::vector<Forward<T>>&, const Parallel&);
  void (*backward)(const std::vector<Backward<T>>&, const Parallel&);
};

// Null if there is none of that name. Compiled for float and for double, in a file each.
template <class T>
const CellKernel<T>* find_cell(const char* name);

}  // namespace deep_rnn

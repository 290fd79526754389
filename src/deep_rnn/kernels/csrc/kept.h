// What the forward keeps of an entry for the backward.
#pragma once

#include "vec.h"

namespace deep_rnn {

// A place in an entry's line; where there is no line, nothing is kept.
template <class T>
struct Kept {
  T* to = nullptr;
  bool streams = false;  // past the caches: all that is kept does not fit them

  Kept() = default;
  Kept(T* line, int64_t place, bool streams) : to(line ? line + place : nullptr), streams(streams) {}

  explicit operator bool() const { return to; }
  void store(T value) const {
    if (to) *to = value;
  }
  void store(const Lanes<T>& lanes, int64_t at, Vec<T> v) const { streams ? lanes.stream(to + at, v) : lanes.store(to + at, v); }
};

}  // namespace deep_rnn

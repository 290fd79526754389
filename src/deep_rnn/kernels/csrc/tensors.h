// What the operators need of torch: its threads, and tensors in memory that is used again.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/ops/from_blob.h>

#if defined(_OPENMP)
#include <omp.h>
#endif

#include "memory.h"
#include "pass.h"

namespace deep_rnn {

inline Parallel torch_threads() {
  const auto run = [](int64_t count, const std::function<void(int64_t)>& job) {
    at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) job(i);
    });
  };
  const auto together = [](int most, const std::function<void(int, int)>& job) {
#if defined(_OPENMP)
#pragma omp parallel num_threads(most)
    job(omp_get_thread_num(), omp_get_num_threads());
#else
    job(0, 1);
#endif
  };
  return {at::in_parallel_region() ? 1 : at::get_num_threads(), run, together};
}

// Kept in the pool of memory.h.
inline at::Tensor empty(at::IntArrayRef sizes, const at::TensorOptions& options) {
  void* block = Pool::instance().take(c10::multiply_integers(sizes) * options.dtype().itemsize());
  return at::from_blob(block, sizes, [](void* data) { Pool::instance().give(data); }, options);
}

}  // namespace deep_rnn

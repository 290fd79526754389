// Memory that is used again. A fresh page costs the kernel microseconds, more than the arithmetic done on it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace deep_rnn {

constexpr int64_t kCacheBytes = 1 << 20;  // of the cache that a core has for itself

// Keeps blocks that were given back, but holds little more in all than was once in use at the same time; with nothing to
// spare, calls would drop blocks that the next ones need. A block may serve for less than its size: models that take turns in
// one process would else make each other's memory fresh again.
class Pool {
 public:
  static Pool& instance() {
    static Pool* pool = new Pool;  // never destroyed: tensors may outlive every static object
    return *pool;
  }

  void* take(size_t bytes) {
    bytes = rounded(bytes);
    const std::lock_guard<std::mutex> guard(mutex_);
    const auto found = kept_.lower_bound(bytes);
    if (found != kept_.end() && found->first <= kMostTimes * bytes) {
      const auto [size, block] = *found;
      kept_.erase(found);
      kept_bytes_ -= size;
      used_ += size;
      return block;
    }
    used_ += bytes;
    most_used_ = std::max(most_used_, used_);
    const size_t most = most_used_ + most_used_ / 8 + kCacheBytes;
    while (!kept_.empty() && used_ + kept_bytes_ > most) {  // the smallest that is enough goes, or else the largest
      auto last = kept_.lower_bound(used_ + kept_bytes_ - most);
      if (last == kept_.end()) --last;
      ::operator delete(start_of(last->second), alignment(last->first));
      kept_bytes_ -= last->first;
      kept_.erase(last);
    }
    return fresh(bytes);
  }

  void give(void* block) {
    const std::lock_guard<std::mutex> guard(mutex_);
    const size_t bytes = *static_cast<size_t*>(start_of(block));
    used_ -= bytes;
    kept_bytes_ += bytes;
    kept_.emplace(bytes, block);
  }

 private:
  static constexpr size_t kHeader = 64;    // before a block: its size
  static constexpr size_t kMostTimes = 4;  // how much larger than asked for a block may be
  static constexpr size_t kHugePage = 2 << 20;

  static void* start_of(void* block) { return static_cast<char*>(block) - kHeader; }

  static std::align_val_t alignment(size_t bytes) { return std::align_val_t(bytes < kHugePage ? 64 : kHugePage); }

  // A large block asks for huge pages: what a call reads and writes lies on more small ones than a core keeps addresses of.
  // (On a Zen 5 server forward and backward of 64 to 1024 units take 0.96 to 1.0 times as long.)
  static void* fresh(size_t bytes) {
    char* start = static_cast<char*>(::operator new(kHeader + bytes, alignment(bytes)));
#if defined(__linux__)
    if (bytes >= kHugePage) madvise(start, kHeader + bytes, MADV_HUGEPAGE);  // advice: pages stay small where it is not taken
#endif
    *reinterpret_cast<size_t*>(start) = bytes;
    return start + kHeader;
  }

  // Up to the next eighth of a power of two, so that batches of similar lengths share blocks.
  static size_t rounded(size_t bytes) {
    size_t step = 64;
    while (step * 16 <= bytes) step *= 2;
    return std::max(step, (bytes + step - 1) / step * step);
  }

  std::mutex mutex_;
  std::multimap<size_t, void*> kept_;
  size_t used_ = 0, most_used_ = 0, kept_bytes_ = 0;
};

// An array without constructors, on a cache line.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t size) : data_(static_cast<T*>(Pool::instance().take(size_t(size) * sizeof(T)))) {}
  Buffer(Buffer&& other) noexcept : data_(other.release()) {}
  Buffer& operator=(Buffer&&) = delete;
  ~Buffer() {
    if (data_) Pool::instance().give(data_);
  }
  T* get() const { return data_; }
  T* release() { return std::exchange(data_, nullptr); }

 private:
  T* data_ = nullptr;
};

// Asks for memory that will soon be read.
template <class T>
void fetch(const T* from, int64_t count) {
  constexpr int64_t kLine = 64 / sizeof(T);
  for (int64_t i = 0; i < count; i += kLine) __builtin_prefetch(from + i);
}

}  // namespace deep_rnn

// Threads that work on one thing together, step by step.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>

namespace deep_rnn {

// Where all members of a team wait for each other. Steps are short: a member looks again and again, and lets others have the
// processor only where that takes long, because there are more threads than cores.
class Barrier {
 public:
  void wait(int members) {
    const int64_t round = round_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == members) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.store(round + 1, std::memory_order_release);
      return;
    }
    for (int looks = 0; round_.load(std::memory_order_acquire) == round; ++looks)
      looks > kMostLooks ? std::this_thread::yield() : pause();
  }

 private:
  // Leaves the core to the thread that may share it.
  static void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }

  static constexpr int kMostLooks = 2000;
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<int64_t> round_{0};
};

struct Share {
  int64_t first, last;

  int64_t size() const { return last - first; }
};

// A member of a team, as it sees the team.
struct Member {
  int number, members;
  Barrier& barrier;

  void wait() const { barrier.wait(members); }

  // Its part of `count` things, in pieces of `piece`.
  Share share(int64_t count, int64_t piece) const {
    const auto border = [=, this](int64_t i) { return i == members ? count : (count + piece - 1) / piece * i / members * piece; };
    return {border(number), border(number + 1)};
  }
};

}  // namespace deep_rnn

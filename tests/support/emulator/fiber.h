// A stack of its own, and the switch between two of them.
#pragma once

#include <cstddef>

#if !defined(__x86_64__) && !defined(__aarch64__)
#include <ucontext.h>
#define WEDGE_UCONTEXT
#endif

#if defined(__SANITIZE_ADDRESS__)
#define WEDGE_ASAN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WEDGE_ASAN
#endif
#endif

namespace wedge::emulator {

class Fiber {
 public:
  // Stands for the caller's own stack, where run() was called.
  Fiber() = default;
  // Will call `entry`, which never returns, when first switched to. `number` only spreads the stacks over the
  // cache's sets.
  Fiber(void (*entry)(), unsigned number);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Forgets what runs on it, destructors included: the next switch calls `entry` anew.
  void reset();

  // Leaves `from`, the running one, and goes on where `to` left. Returns when somebody switches back.
  static void switch_to(Fiber& from, Fiber& to);

 private:
  static void begin();

  void (*entry_)() = nullptr;
  void* mapping_ = nullptr;
  std::size_t offset_ = 0;  // of the first frame below the top of the stack
#if defined(WEDGE_UCONTEXT)
  ucontext_t context_;
#else
  void* stack_pointer_ = nullptr;
#endif
#if defined(WEDGE_ASAN)
  void* fake_stack_ = nullptr;
  const void* bottom_ = nullptr;
  std::size_t size_ = 0;
#endif
};

}  // namespace wedge::emulator

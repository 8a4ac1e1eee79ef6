// Numbers below the smallest normal one (1.2e-38 in float) cost a processor many times what others do: an
// Intel core leaves its pipeline for each of them. Probabilities and second moments fall that low in every
// training, where next to what they are added to they are nothing.
#pragma once

#include <cstdint>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace wedge::cpu {

// While one lives, this thread's arithmetic takes such numbers for zero, as operands and as results. That holds
// for values loaded and stored meanwhile: a compiler may move arithmetic between registers past its end. No
// parallel region may begin within its life: the threads that it starts would inherit the mode and keep it.
class FlushDenormals {
 public:
  FlushDenormals() { set_mode(mode() | kBits); }
  ~FlushDenormals() { set_mode((mode() & ~kBits) | before_); }
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

#if defined(__SSE__)
  using Mode = unsigned;
  static constexpr Mode kBits = 0x8040;  // MXCSR: flush to zero, denormals are zero

 private:
  static Mode mode() {
    return _mm_getcsr();
  }
  static void set_mode(Mode mode) {
    _mm_setcsr(mode);
  }
#elif defined(__aarch64__)
  using Mode = std::uint64_t;
  static constexpr Mode kBits = 1 << 24;  // FPCR: FZ

 private:
  static Mode mode() {
    Mode mode;
    asm volatile("mrs %0, fpcr" : "=r"(mode));
    return mode;
  }
  static void set_mode(Mode mode) {
    asm volatile("msr fpcr, %0" : : "r"(mode) : "memory");
  }
#else
  using Mode = unsigned;
  static constexpr Mode kBits = 0;  // not known how: nothing changes

 private:
  static Mode mode() {
    return 0;
  }
  static void set_mode(Mode) {}
#endif
  const Mode before_ = mode() & kBits;
};

}  // namespace wedge::cpu

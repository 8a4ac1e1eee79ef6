#include "fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>

#include "tensor/check.h"

#if defined(WEDGE_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// wedge_switch_stack(save, load): pushes what a call must preserve, stores the stack pointer at *save, takes
// `load` for it, and pops what was pushed there.
#if defined(__x86_64__)
asm(R"(
.text
.p2align 4
.globl wedge_switch_stack
.hidden wedge_switch_stack
.type wedge_switch_stack, @function
wedge_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size wedge_switch_stack, .-wedge_switch_stack
)");
namespace {
constexpr std::size_t kFrameWords =
    8;  // six registers, begin's address, the address that begin returns to: none
constexpr std::size_t kReturnWord = 6;
}  // namespace
#elif defined(__aarch64__)
asm(R"(
.text
.p2align 4
.globl wedge_switch_stack
.hidden wedge_switch_stack
.type wedge_switch_stack, %function
wedge_switch_stack:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size wedge_switch_stack, .-wedge_switch_stack
)");
namespace {
constexpr std::size_t kFrameWords = 20;
constexpr std::size_t kReturnWord = 11;  // x30
}  // namespace
#endif

#if !defined(WEDGE_UCONTEXT)
extern "C" void wedge_switch_stack(void** save, void* load);
#endif

namespace wedge::emulator {
namespace {

#if defined(WEDGE_ASAN)
constexpr std::size_t kStack = 256 * 1024;
#else
constexpr std::size_t kStack = 64 * 1024;
#endif

std::size_t page() {
  static const auto bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

Fiber* switching_from = nullptr;  // for the end of a switch, on the other side
Fiber* switching_to = nullptr;

}  // namespace

Fiber::Fiber(void (*entry)(), unsigned number) : entry_(entry), offset_(number % 16 * 192) {
  const std::size_t bytes = page() + kStack;  // a page that faults, then the stack, which grows down to it
  mapping_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  WEDGE_CHECK(mapping_ != MAP_FAILED, "emulator: no memory for the stack of a thread");
  WEDGE_CHECK(mprotect(mapping_, page(), PROT_NONE) == 0, "emulator: no guard page below a stack");
  reset();
}

Fiber::~Fiber() {
  if (mapping_ != nullptr) munmap(mapping_, page() + kStack);
}

void Fiber::reset() {
  std::byte* const bottom = static_cast<std::byte*>(mapping_) + page();
#if defined(WEDGE_ASAN)
  __asan_unpoison_memory_region(bottom, kStack);
  fake_stack_ = nullptr;
  bottom_ = bottom;
  size_ = kStack;
#endif
#if defined(WEDGE_UCONTEXT)
  getcontext(&context_);
  context_.uc_stack.ss_sp = bottom;
  context_.uc_stack.ss_size = kStack - offset_;
  context_.uc_link = nullptr;
  makecontext(&context_, &Fiber::begin, 0);
#else
  // What the switch pops at first: zeros, and begin() to go on at. The stack is 16-byte aligned where it is
  // called.
  auto* const top = reinterpret_cast<std::uintptr_t*>(bottom + kStack - offset_);
  std::uintptr_t* const frame = top - kFrameWords;
  std::memset(frame, 0, kFrameWords * sizeof *frame);
  frame[kReturnWord] = reinterpret_cast<std::uintptr_t>(&Fiber::begin);
  stack_pointer_ = frame;
#endif
}

void Fiber::begin() {
#if defined(WEDGE_ASAN)
  __sanitizer_finish_switch_fiber(switching_to->fake_stack_, &switching_from->bottom_,
                                  &switching_from->size_);
#endif
  switching_to->entry_();
}

void Fiber::switch_to(Fiber& from, Fiber& to) {
  switching_from = &from;
  switching_to = &to;
#if defined(WEDGE_ASAN)
  __sanitizer_start_switch_fiber(&from.fake_stack_, to.bottom_, to.size_);
#endif
#if defined(WEDGE_UCONTEXT)
  swapcontext(&from.context_, &to.context_);
#else
  wedge_switch_stack(&from.stack_pointer_, to.stack_pointer_);
#endif
#if defined(WEDGE_ASAN)
  __sanitizer_finish_switch_fiber(from.fake_stack_, &switching_from->bottom_, &switching_from->size_);
#endif
}

}  // namespace wedge::emulator

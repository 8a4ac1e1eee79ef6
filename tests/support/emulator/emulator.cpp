// Blocks one after another, in a shuffled order. The threads of a block are fibers: one runs until it waits
// for others (a barrier, a warp collective) or ends, then another is drawn. A warp runs on while any lane of
// it can, so that of two warps one is a whole interval between barriers ahead of the other: an access that a
// missing barrier should have ordered comes out in both orders, sooner or later.
#include "emulator.h"

#include <exception>
#include <map>
#include <numeric>

#include "machine.h"
#include "tensor/check.h"

uint3 threadIdx{}, blockIdx{};
dim3 blockDim, gridDim;

namespace wedge::emulator {

Machine& machine() {
  static Machine* const instance = new Machine;
  return *instance;
}

// What a GPU refuses.
void Machine::check(const Launch& l) const {
  WEDGE_CHECK(current_ == nullptr, "emulator: {}: launched from a kernel", l.name);
  const std::uint64_t threads = std::uint64_t{l.block.x} * l.block.y * l.block.z;
  const bool refused = threads == 0 || threads > kMaxThreads || l.block.z > 64 || l.grid.x == 0 ||
                       l.grid.y == 0 || l.grid.z == 0 || l.grid.x > 0x7fffffffu || l.grid.y > 65535 ||
                       l.grid.z > 65535;
  WEDGE_CHECK(!refused, "cuda: {}: invalid configuration: grid ({}, {}, {}), block ({}, {}, {})", l.name,
              l.grid.x, l.grid.y, l.grid.z, l.block.x, l.block.y, l.block.z);
  WEDGE_CHECK(l.shared_bytes <= SharedMemory::most,
              "cuda: {}: {} bytes of shared memory, a block can have {}", l.name, l.shared_bytes,
              SharedMemory::most);
}

void Machine::run(const Launch& launch, void (*body)(const void*), const void* context) {
  const std::scoped_lock lock(mutex);
  check(launch);
  const DeviceAccess access;
  launch_ = &launch;
  body_ = body;
  context_ = context;
  gridDim = launch.grid;
  blockDim = launch.block;
  count_ = blockDim.x * blockDim.y * blockDim.z;
  for (unsigned i = 0; i < count_; ++i)
    threads_[i].index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};

  const std::uint64_t blocks = std::uint64_t{gridDim.x} * gridDim.y * gridDim.z;
  WEDGE_CHECK(blocks < std::uint64_t{1} << 32, "emulator: {}: {} blocks are too many", launch.name, blocks);
  std::uint64_t step = 1, at = 0;  // at + i · step visits every block once
  if (blocks > 1) {
    do step = draws.next() % blocks;
    while (std::gcd(step, blocks) != 1);
    at = draws.next() % blocks;
  }
  for (std::uint64_t i = 0; i < blocks; ++i, at = (at + step) % blocks) {
    blockIdx = {static_cast<unsigned>(at % gridDim.x), static_cast<unsigned>(at / gridDim.x % gridDim.y),
                static_cast<unsigned>(at / gridDim.x / gridDim.y)};
    run_block();
  }
  try {
    check_memory();
  } catch (const Error& error) {
    throw Error(fmt::format("{} (seen after {}, seed {})", error.what(), launch.name, draws.seed));
  }
}

void Machine::run_block() {
  for (unsigned i = 0; i < count_; ++i) {
    threads_[i].fiber = nullptr;
    threads_[i].ended = false;
    threads_[i].waits_at.what = nullptr;
  }
  ++blocks_;
  ended_ = at_barrier_ = 0;
  ready_warps_ = 0;
  shared.begin_block(launch_->shared_bytes);
  make_all_ready();
  current_ = draw();
  threadIdx = current_->index;
  running_ = take_fiber();
  Fiber::switch_to(main_, *running_);

  if (failure_.empty()) {
    current_ = nullptr;
    try {
      shared.check();
      return;
    } catch (const Error& error) {
      failure_ = fmt::format("{}, {}", block(), error.what());
    }
  } else {
    abandon();
  }
  current_ = nullptr;
  std::string what;
  what.swap(failure_);
  throw Error(what);
}

// Of a block that failed: threads that wait will never go on.
void Machine::abandon() {
  for (unsigned i = 0; i < count_; ++i) {
    Fiber* const fiber = threads_[i].fiber;
    if (fiber == nullptr || fiber == running_) continue;
    fiber->reset();
    idle_.push_back(fiber);
  }
  for (Warp& warp : warps_) warp = {};
}

void Machine::fiber_main() {
  machine().run_threads();
}

// The life of a fiber: runs `current_`, and whichever thread it is next put to.
void Machine::run_threads() {
  for (;;) {
    Fiber* const self = running_;
    current_->fiber = self;
    try {
      body_(context_);
    } catch (const std::exception& error) {
      if (failure_.empty()) failure_ = fmt::format("{}, {}", where(), error.what());
    } catch (...) {
      failure_ = fmt::format("{}, an exception of unknown type", where());
    }
    current_->fiber = nullptr;
    current_->ended = true;
    ++ended_;
    Thread* const next = failure_.empty() ? draw() : nullptr;
    if (next == nullptr) {
      if (failure_.empty() && ended_ < count_) failure_ = deadlock();
      idle_.push_back(self);
      Fiber::switch_to(*self, main_);
    } else if (next->fiber == nullptr) {
      current_ = next;
      threadIdx = next->index;
    } else {
      idle_.push_back(self);
      become(*next);
    }
  }
}

// The running thread waits until make_ready() names it; another goes on.
void Machine::wait(const Place& place) {
  Thread& self = *current_;
  self.waits_at = place;
  Thread* const next = draw();
  if (next == nullptr) {
    failure_ = deadlock();
    throw Error(failure_);  // leaves the kernel's code; run_threads() catches it
  }
  if (next != &self) become(*next);
  self.waits_at.what = nullptr;
}

// Switches to `thread`; returns when somebody switches back.
void Machine::become(Thread& thread) {
  current_ = &thread;
  threadIdx = thread.index;
  Fiber* const to = thread.fiber != nullptr ? thread.fiber : take_fiber();
  Fiber* const from = running_;
  running_ = to;
  if (from != to) Fiber::switch_to(*from, *to);
}

void Machine::make_ready(unsigned warp, unsigned lanes) {
  warps_[warp].ready |= lanes;
  ready_warps_ |= 1u << warp;
}

// The whole block, of which a warp is drawn to go first.
void Machine::make_all_ready() {
  for (unsigned w = 0; w * kWarp < count_; ++w) {
    const unsigned lanes = count_ - w * kWarp;
    make_ready(w, lanes >= kWarp ? ~0u : (1u << lanes) - 1);
  }
  warp_ = draws.bit(ready_warps_);
}

// One that no thread has.
Fiber* Machine::take_fiber() {
  if (idle_.empty()) {
    fibers_.push_back(std::make_unique<Fiber>(&Machine::fiber_main, static_cast<unsigned>(fibers_.size())));
    idle_.push_back(fibers_.back().get());
  }
  Fiber* const fiber = idle_.back();
  idle_.pop_back();
  return fiber;
}

// The thread to run next, taken from those that can; null if none can.
Thread* Machine::draw() {
  if (warps_[warp_].ready == 0) {
    if (ready_warps_ == 0) return nullptr;
    warp_ = draws.bit(ready_warps_);
  }
  unsigned& ready = warps_[warp_].ready;
  const unsigned lane = draws.bit(ready);
  ready &= ~(1u << lane);
  if (ready == 0) ready_warps_ &= ~(1u << warp_);
  return &threads_[warp_ * kWarp + lane];
}

std::string Machine::block() const {
  return fmt::format("emulator: {}: seed {}, block ({}, {}, {})", launch_->name, draws.seed, blockIdx.x,
                     blockIdx.y, blockIdx.z);
}

std::string Machine::where() const {
  const uint3 t = current_->index;
  return fmt::format("{}, thread ({}, {}, {})", block(), t.x, t.y, t.z);
}

std::string Machine::deadlock() const {
  std::map<std::string, int> waiting;
  int ended = 0;
  for (unsigned i = 0; i < count_; ++i) {
    if (threads_[i].ended) {
      ++ended;
    } else if (threads_[i].waits_at.what != nullptr) {
      ++waiting[threads_[i].waits_at.text()];
    }
  }
  std::string text = block() + ", deadlock: ";
  for (const auto& [place, n] : waiting)
    text += fmt::format("{} of {} threads wait at {}, ", n, count_, place);
  return text + fmt::format("{} have returned", ended);
}

void* Machine::static_shared(const void* key, std::size_t bytes) {
  WEDGE_CHECK(current_ != nullptr, "emulator: shared memory outside a kernel");
  return shared.fixed(key, bytes);
}

void run(const Launch& launch, void (*body)(const void*), const void* context) {
  machine().run(launch, body, context);
}
void set_seed(std::uint64_t seed) {
  machine().draws = Draws(seed);
}
void* static_shared(const void* key, std::size_t bytes) {
  return machine().static_shared(key, bytes);
}
void* dynamic_shared() {
  return machine().shared.dynamic();
}
Running running() {
  return machine().running();
}
std::uint64_t draw() {
  return machine().draws.next();
}
bool in_shared(const void* p, std::size_t bytes) {
  return machine().shared.holds(p, bytes);
}

}  // namespace wedge::emulator

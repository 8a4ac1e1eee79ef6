// Blocks one after another, in a shuffled order. The threads of a block are fibers: one runs until it waits
// for others (a barrier, a warp collective) or ends, then another is drawn. A warp runs on while any lane of
// it can, so that of two warps one is a whole interval between barriers ahead of the other: an access that a
// missing barrier should have ordered comes out in both orders, sooner or later.
#include "emulator.h"

#include <bit>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <string>
#include <vector>

#include "fiber.h"
#include "shared_memory.h"
#include "tensor/check.h"

uint3 threadIdx{}, blockIdx{};
dim3 blockDim, gridDim;

namespace wedge::emulator {
namespace {

constexpr unsigned kWarp = 32, kMaxThreads = 1024;

struct Place {
  const char* what = nullptr;  // null: not waiting
  const char* file = nullptr;
  int line = 0;

  bool operator==(const Place& other) const {
    return line == other.line && what == other.what &&
           (file == other.file || std::strcmp(file, other.file) == 0);
  }
  std::string text() const { return fmt::format("{} ({}:{})", what, file, line); }
};

struct Thread {
  uint3 index;
  Fiber* fiber;  // null: not started, or ended
  bool ended;
  Place waits_at;
  void* record;
  unsigned mask;
};

struct Warp {
  unsigned ready;           // lanes that can run
  unsigned waiting;         // lanes in a collective
  unsigned arrived[kWarp];  // of the group whose mask has this lowest lane
};

// SplitMix64's finaliser over a counter: short, and good enough to draw orders from.
class Draws {
 public:
  explicit Draws(std::uint64_t seed) : seed(seed), state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  // One of the bits of `mask`, which is not 0.
  unsigned bit(unsigned mask) {
    const auto by = static_cast<int>(next() >> 59);
    return (static_cast<unsigned>(std::countr_zero(std::rotr(mask, by)) + by)) % kWarp;
  }

  std::uint64_t seed;

 private:
  std::uint64_t state_;
};

std::uint64_t first_seed() {
  const char* const text = std::getenv("WEDGE_EMULATOR_SEED");
  return text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
}

class Machine {
 public:
  void run(const Launch& launch, void (*body)(const void*), const void* context);

  void barrier(const Place& place);
  void collective(const Collective& what, unsigned mask, void* record, const Place& place);
  void* static_shared(const void* key, std::size_t bytes);
  Running running() const { return {number(*current_), blocks_}; }

  Draws draws{first_seed()};
  SharedMemory shared;
  std::recursive_mutex mutex;  // one launch at a time

 private:
  static void fiber_main();
  void check(const Launch& launch) const;
  void run_block();
  void run_threads();
  void wait(const Place& place);
  void make_ready(unsigned warp, unsigned lanes);
  Thread* draw();
  void become(Thread& thread);
  std::string deadlock() const;
  std::string block() const;
  std::string where() const;
  void abandon();
  unsigned number(const Thread& thread) const { return static_cast<unsigned>(&thread - threads_.data()); }

  const Launch* launch_ = nullptr;
  void (*body_)(const void*) = nullptr;
  const void* context_ = nullptr;

  std::uint64_t blocks_ = 0;  // started so far
  std::vector<Thread> threads_{kMaxThreads};
  unsigned count_ = 0, ended_ = 0, at_barrier_ = 0;
  Place barrier_;
  Warp warps_[kWarp] = {};
  unsigned ready_warps_ = 0;
  unsigned warp_ = 0;
  Thread* current_ = nullptr;

  Fiber main_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> idle_;
  Fiber* running_ = nullptr;
  std::string failure_;
};

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
  for (unsigned w = 0; w * kWarp < count_; ++w) {
    const unsigned lanes = count_ - w * kWarp;
    make_ready(w, lanes >= kWarp ? ~0u : (1u << lanes) - 1);
  }
  warp_ = draws.bit(ready_warps_);
  current_ = draw();
  threadIdx = current_->index;
  if (idle_.empty()) {
    fibers_.push_back(std::make_unique<Fiber>(&Machine::fiber_main, static_cast<unsigned>(fibers_.size())));
    idle_.push_back(fibers_.back().get());
  }
  running_ = idle_.back();
  idle_.pop_back();
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
  Fiber* to = thread.fiber;
  if (to == nullptr) {
    if (idle_.empty()) {
      fibers_.push_back(std::make_unique<Fiber>(&Machine::fiber_main, static_cast<unsigned>(fibers_.size())));
      idle_.push_back(fibers_.back().get());
    }
    to = idle_.back();
    idle_.pop_back();
  }
  Fiber* const from = running_;
  running_ = to;
  if (from != to) Fiber::switch_to(*from, *to);
}

void Machine::make_ready(unsigned warp, unsigned lanes) {
  warps_[warp].ready |= lanes;
  ready_warps_ |= 1u << warp;
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

void Machine::barrier(const Place& place) {
  WEDGE_CHECK(current_ != nullptr, "emulator: {} outside a kernel", place.text());
  if (at_barrier_ == 0) barrier_ = place;
  WEDGE_CHECK(barrier_ == place, "threads of the block wait at different barriers, {} and {}",
              barrier_.text(), place.text());
  if (++at_barrier_ == count_) {
    at_barrier_ = 0;
    for (unsigned w = 0; w * kWarp < count_; ++w) {
      const unsigned lanes = count_ - w * kWarp;
      make_ready(w, lanes >= kWarp ? ~0u : (1u << lanes) - 1);
    }
    warp_ = draws.bit(ready_warps_);
  }
  wait(place);
}

void Machine::collective(const Collective& what, unsigned mask, void* record, const Place& place) {
  WEDGE_CHECK(current_ != nullptr, "emulator: {} outside a kernel", place.text());
  const unsigned n = number(*current_), w = n / kWarp, self = 1u << n % kWarp;
  Thread* const lanes = &threads_[w * kWarp];
  Warp& warp = warps_[w];
  WEDGE_CHECK((mask & self) != 0, "{}: the mask {:#010x} lacks the lane that calls, {}", place.text(), mask,
              n % kWarp);
  WEDGE_CHECK(count_ - w * kWarp >= kWarp || mask >> (count_ - w * kWarp) == 0,
              "{}: the mask {:#010x} names lanes that the block does not have", place.text(), mask);
  unsigned& arrived = warp.arrived[std::countr_zero(mask)];
  const unsigned others = warp.waiting & mask;
  if (others != 0) {
    const Thread& first = lanes[std::countr_zero(others)];
    WEDGE_CHECK(others == arrived && first.mask == mask && first.waits_at == place,
                "lanes of a warp wait for each other in different places: {} with mask {:#010x} and {} with "
                "mask {:#010x}",
                first.waits_at.text(), first.mask, place.text(), mask);
  }
  arrived |= self;
  warp.waiting |= self;
  current_->record = record;
  current_->mask = mask;
  if (arrived == mask) {
    arrived = 0;
    warp.waiting &= ~mask;
    void* records[kWarp];
    for (unsigned i = 0; i < kWarp; ++i) records[i] = (mask >> i & 1) != 0 ? lanes[i].record : nullptr;
    what.complete(records, mask);
    make_ready(w, mask);
  }
  wait(place);
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

}  // namespace

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
void barrier(const char* file, int line) {
  machine().barrier({"__syncthreads", file, line});
}
void collective(const Collective& what, unsigned mask, void* record, const char* file, int line) {
  machine().collective(what, mask, record, {what.name, file, line});
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

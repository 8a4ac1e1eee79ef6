// What runs the blocks of a launch: the scheduler's state (emulator.cpp) and how threads wait for each other
// (collectives.cpp).
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "draws.h"
#include "emulator.h"
#include "fiber.h"
#include "shared_memory.h"
#include "tensor/check.h"

namespace wedge::emulator {

inline constexpr unsigned kWarp = 32, kMaxThreads = 1024;

// Where a thread waits.
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
  void make_all_ready();
  Fiber* take_fiber();
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

Machine& machine();

}  // namespace wedge::emulator

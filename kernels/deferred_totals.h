// Totals of column sums (cuda/column_sums.cuh) that wait for one another: a kernel that adds the pieces of
// one sum is hardly more than its launch, so those that nobody reads for a while are added by one kernel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/exec.h"
#include "tensor/storage.h"

namespace wedge::cu {

// out[c] (+)= Σ over pieces of partials[piece · stride + c], for c < columns
template <class Out>
struct ColumnTotal {
  const float* partials;
  Out* out;
  std::int64_t stride, columns;
  std::int32_t pieces, add;
};

// What one kernel adds: its parameters are 4 KB at most. A row of the table has at most kColumns columns.
struct DeferredTable {
  static constexpr int kMost = 96;
  static constexpr std::int64_t kColumns = 256;
  ColumnTotal<float> of[kMost];
};

// While one lives, totals of this thread on its stream wait in it if they go to memory that may_wait() was
// told of. They are added in the order in which they came, with the bits that they would have at once. That
// memory must stay, and nobody touches it before settle() or add_up(). Each of nested scopes has its own.
class DeferredTotals {
 public:
  // Partial sums that wait, at most: beyond, what waits is added.
  static constexpr std::size_t kMostBytes = std::size_t{32} << 20;

  explicit DeferredTotals(void* stream);
  // Forgets what waits.
  ~DeferredTotals();
  DeferredTotals(const DeferredTotals&) = delete;
  DeferredTotals& operator=(const DeferredTotals&) = delete;

  void may_wait(std::span<const float> to);
  // Adds what waits, if any of it goes to `to`, here and in the scopes around.
  static void settle(std::span<const float> to);
  // Adds all that waits.
  void add_up();

  // For kernels: takes totals of the partial sums in `partials`, all or none; false: none.
  static bool take(void* stream, const std::shared_ptr<Storage>& partials,
                   std::span<const ColumnTotal<float>> totals);

 private:
  bool lets_wait(std::span<const float> to) const;
  bool has(std::span<const float> to) const;
  void push(const ColumnTotal<float>& total, const std::shared_ptr<Storage>& partials);

  DeferredTotals* around_;
  void* stream_;
  std::vector<std::span<const float>> places_;
  std::vector<std::shared_ptr<Storage>> held_;
  std::size_t held_bytes_ = 0;
  DeferredTable table_ = {};
  int count_ = 0;
};

// Column sums of parts of a tensor's rows: float32 [pieces, columns]. Empty where there are none.
struct PartialSums {
  std::shared_ptr<Storage> partials;
  std::int64_t pieces = 0, columns = 0;

  PartialSums() = default;
  // Memory on the GPU for them, not initialised; none for 0 pieces.
  PartialSums(std::int64_t pieces, std::int64_t columns);
  explicit operator bool() const { return partials != nullptr; }
  float* data() const { return partials ? reinterpret_cast<float*>(partials->data()) : nullptr; }
};

// to [columns] (+)= their totals, which may wait.
void add_up(void* stream, const PartialSums& sums, Sink<float> to);

// The kernel for the first `count` of the table, no two of which go to one place.
void add_totals(void* stream, const DeferredTable& table, int count);

}  // namespace wedge::cu

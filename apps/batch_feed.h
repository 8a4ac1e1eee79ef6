// Batches as tensors on the device that trains.
#pragma once

#include "data/batches.h"
#include "tensor/tensor.h"

namespace wedge::app {

struct Batch {
  Tensor inputs, targets;  // int32 [rows, L]
};

// On a GPU the whole stream is uploaded once and the order of its blocks once an epoch; a batch is gathered
// there.
class BatchFeed {
 public:
  // `blocks` and `batches` (over the same blocks) must outlive this object.
  BatchFeed(const data::Blocks& blocks, const data::Batches& batches, Device device);

  // To be called after batches.start_epoch.
  void start_epoch();

  // Batch `index` of the epoch.
  Batch at(std::int64_t index);
  // The same; on a GPU the place of its first block in the order is read from `first` there, int64 [1], so
  // that `index` decides nothing but the number of rows: a captured step can be replayed with another batch.
  Batch at(std::int64_t index, const Tensor& first);

 private:
  Batch gather(std::int64_t index, const std::int64_t* blocks, const std::int64_t* first);

  const data::Blocks& blocks_;
  const data::Batches& batches_;
  Tensor stream_, order_;  // GPU only
  std::vector<std::int32_t> inputs_, targets_;
};

}  // namespace wedge::app

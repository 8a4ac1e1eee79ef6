// Batches as tensors on the device that trains.
#pragma once

#include "data/batches.h"
#include "tensor/tensor.h"

namespace wedge::app {

struct Batch {
  Tensor inputs, targets;  // int32 [rows, L]
};

// On a GPU the whole stream is uploaded once, and a batch is gathered there from the numbers of its blocks.
class BatchFeed {
 public:
  // `blocks` and `batches` (over the same blocks) must outlive this object.
  BatchFeed(const data::Blocks& blocks, const data::Batches& batches, Device device);

  // Batch `index` of the epoch that `batches` is in.
  Batch at(std::int64_t index);

 private:
  const data::Blocks& blocks_;
  const data::Batches& batches_;
  Tensor stream_;  // GPU only
  std::vector<std::int32_t> inputs_, targets_;
};

}  // namespace wedge::app

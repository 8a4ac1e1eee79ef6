#include "apps/batch_feed.h"

#include "autograd/compute.h"
#include "kernels/token_blocks.h"

namespace wedge::app {

BatchFeed::BatchFeed(const data::Blocks& blocks, const data::Batches& batches, Device device)
    : blocks_(blocks), batches_(batches) {
  if (device == Device::cuda)
    stream_ = Tensor::from(blocks.tokens(), {static_cast<std::int64_t>(blocks.tokens().size())}).to(device);
}

Batch BatchFeed::at(std::int64_t index) {
  const std::int64_t L = blocks_.context_len();
  if constexpr (kWithCuda) {
    if (stream_.defined()) {
      const std::span<const std::int64_t> numbers = batches_.blocks_of(index);
      const auto rows = static_cast<std::int64_t>(numbers.size());
      const Tensor blocks = Tensor::from(numbers, {rows}).to(Device::cuda);
      const Batch batch{Tensor::empty({rows, L}, DType::i32, Device::cuda),
                        Tensor::empty({rows, L}, DType::i32, Device::cuda)};
      cu::take_token_blocks(compute::exec_of(stream_),
                            {rows, L, stream_.data<std::int32_t>(), blocks.data<std::int64_t>(),
                             batch.inputs.data<std::int32_t>(), batch.targets.data<std::int32_t>()});
      return batch;
    }
  }
  const std::int64_t rows = batches_.fill(index, inputs_, targets_);
  return {Tensor::from(inputs_, {rows, L}), Tensor::from(targets_, {rows, L})};
}

}  // namespace wedge::app

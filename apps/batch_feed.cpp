#include "apps/batch_feed.h"

#include "autograd/compute.h"
#include "kernels/token_blocks.h"

namespace wedge::app {

BatchFeed::BatchFeed(const data::Blocks& blocks, const data::Batches& batches, Device device)
    : blocks_(blocks), batches_(batches) {
  if (device == Device::cpu) return;
  stream_ = Tensor::from(blocks.tokens(), {static_cast<std::int64_t>(blocks.tokens().size())}).to(device);
  order_ = Tensor::empty({static_cast<std::int64_t>(batches.order().size())}, DType::i64, device);
  start_epoch();
}

void BatchFeed::start_epoch() {
  if (order_.defined()) order_.copy_from(Tensor::from(batches_.order(), order_.shape()));
}

Batch BatchFeed::at(std::int64_t index) {
  const std::int64_t* blocks = nullptr;
  if (order_.defined())
    blocks = order_.data<std::int64_t>() + (batches_.blocks_of(index).data() - batches_.order().data());
  return gather(index, blocks, nullptr);
}

Batch BatchFeed::at(std::int64_t index, const Tensor& first) {
  if (!order_.defined()) return at(index);
  return gather(index, order_.data<std::int64_t>(), first.data<std::int64_t>());
}

Batch BatchFeed::gather(std::int64_t index, const std::int64_t* blocks, const std::int64_t* first) {
  const std::int64_t L = blocks_.context_len();
  if constexpr (kWithCuda) {
    if (order_.defined()) {
      const auto rows = static_cast<std::int64_t>(batches_.blocks_of(index).size());
      const Batch batch{Tensor::empty({rows, L}, DType::i32, Device::cuda),
                        Tensor::empty({rows, L}, DType::i32, Device::cuda)};
      cu::take_token_blocks(compute::exec_of(stream_),
                            {rows, L, stream_.data<std::int32_t>(), blocks, first,
                             batch.inputs.data<std::int32_t>(), batch.targets.data<std::int32_t>()});
      return batch;
    }
  }
  const std::int64_t rows = batches_.fill(index, inputs_, targets_);
  return {Tensor::from(inputs_, {rows, L}), Tensor::from(targets_, {rows, L})};
}

}  // namespace wedge::app

#include "data/batches.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "tensor/check.h"
#include "tensor/rng.h"

namespace wedge::data {

Batches::Batches(const Blocks& blocks, std::int64_t batch_size, bool shuffle, std::uint64_t seed)
    : blocks_(blocks),
      batch_size_(batch_size),
      shuffle_(shuffle),
      seed_(seed),
      order_(static_cast<std::size_t>(blocks.count())) {
  WEDGE_CHECK(batch_size >= 1, "batches: the batch size must be >= 1, got {}", batch_size);
  start_epoch(0);
}

// Not (count + batch_size - 1) / batch_size: a batch size near the largest integer must not overflow.
std::int64_t Batches::count() const {
  return (blocks_.count() - 1) / batch_size_ + 1;
}

void Batches::start_epoch(std::int64_t epoch) {
  WEDGE_CHECK(epoch >= 0 && epoch <= 0xffffffffLL, "batches: no epoch {}", epoch);
  std::iota(order_.begin(), order_.end(), std::int64_t{0});
  if (!shuffle_) return;
  Rng rng(seed_, RandomStream::shuffle, static_cast<std::uint32_t>(epoch));
  for (std::size_t left = order_.size(); left > 1; --left)
    std::swap(order_[left - 1], order_[rng.below(left)]);
}

std::span<const std::int64_t> Batches::blocks_of(std::int64_t index) const {
  WEDGE_CHECK(index >= 0 && index < count(), "batches: no batch {} of {}", index, count());
  const std::int64_t first = index * batch_size_;
  const std::int64_t rows = std::min(batch_size_, blocks_.count() - first);
  return std::span(order_).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(rows));
}

std::int64_t Batches::fill(std::int64_t index, std::vector<std::int32_t>& inputs,
                           std::vector<std::int32_t>& targets) const {
  const std::span<const std::int64_t> blocks = blocks_of(index);
  inputs.clear();
  targets.clear();
  for (const std::int64_t block : blocks) {
    const auto input = blocks_.input(block), target = blocks_.target(block);
    inputs.insert(inputs.end(), input.begin(), input.end());
    targets.insert(targets.end(), target.begin(), target.end());
  }
  return static_cast<std::int64_t>(blocks.size());
}

}  // namespace wedge::data

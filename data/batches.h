// The order in which blocks are trained on, and their packing into batches.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/blocks.h"

namespace wedge::data {

// Batches of at most batch_size blocks. The last one of an epoch holds what is left and may be smaller.
class Batches {
 public:
  // `blocks` must outlive this object. Without shuffle the order is always that of the stream. Throws
  // wedge::Error unless batch_size >= 1. Starts in epoch 0.
  Batches(const Blocks& blocks, std::int64_t batch_size, bool shuffle, std::uint64_t seed);

  // Batches an epoch: ceil(blocks / batch_size).
  std::int64_t count() const;

  // Sets the order of an epoch, 0 <= epoch < 2^32: a permutation that depends on nothing but the seed, the
  // epoch and the number of blocks, every one equally likely (Fisher and Yates, random numbers from Philox).
  void start_epoch(std::int64_t epoch);

  // The numbers of the blocks of all batches of the epoch, one batch after the other.
  std::span<const std::int64_t> order() const { return order_; }
  // The numbers of the blocks of batch `index`, 0 <= index < count(), until the next start_epoch. Throws
  // wedge::Error for another index.
  std::span<const std::int64_t> blocks_of(std::int64_t index) const;

  // Replaces the contents of inputs and targets, both [rows, L] row-major, by those of batch `index` of the
  // epoch; returns rows, the number of its blocks. Throws as blocks_of does.
  std::int64_t fill(std::int64_t index, std::vector<std::int32_t>& inputs,
                    std::vector<std::int32_t>& targets) const;

 private:
  const Blocks& blocks_;
  std::int64_t batch_size_;
  bool shuffle_;
  std::uint64_t seed_;
  std::vector<std::int64_t> order_;
};

}  // namespace wedge::data

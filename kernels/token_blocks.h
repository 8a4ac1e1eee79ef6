// Batches gathered from a stream of tokens that lives on the GPU; on the CPU data/batches.h packs them.
#pragma once

#include <cstdint>

#include "kernels/exec.h"

namespace wedge {

// With b = blocks[first + r]:
//   inputs[r, i] = stream[b (L + 1) + i],  targets[r, i] = stream[b (L + 1) + i + 1]
struct TokenBlocks {
  std::int64_t rows, L;
  const std::int32_t* stream;
  const std::int64_t* blocks;  // [first + rows]
  const std::int64_t* first;   // [1] on the GPU, or null: 0
  std::int32_t* inputs;        // [rows, L] =
  std::int32_t* targets;       // [rows, L] =
};

namespace cu {
void take_token_blocks(const Exec& exec, const TokenBlocks& args);
}

}  // namespace wedge

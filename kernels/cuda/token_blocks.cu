// A thread a token: reads L + 1 neighbours of the stream, writes inputs and targets densely.
#include "kernels/token_blocks.h"

#include "kernels/cuda/common.cuh"

namespace wedge::cu {
namespace {

__global__ void take_token_blocks_kernel(TokenBlocks args) {
  const std::int64_t first = args.first == nullptr ? 0 : *args.first;
  for (std::int64_t i = thread_in_grid(); i < args.rows * args.L; i += threads_in_grid()) {
    const std::int32_t* at = args.stream + args.blocks[first + i / args.L] * (args.L + 1) + i % args.L;
    args.inputs[i] = at[0];
    args.targets[i] = at[1];
  }
}

}  // namespace

void take_token_blocks(const Exec& exec, const TokenBlocks& args) {
  constexpr int kThreads = 256;
  if (args.rows * args.L == 0) return;
  launch("take_token_blocks", take_token_blocks_kernel, blocks_for(args.rows * args.L, kThreads), kThreads, 0,
         exec.stream, args);
}

}  // namespace wedge::cu

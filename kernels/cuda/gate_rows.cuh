// What the forward and the backward kernel of gate_layernorm have in common: a block owns kRows whole rows,
// of at most kWidest elements, so that means over a row need no other block.
#pragma once

#include "kernels/cuda/math.cuh"
#include "kernels/cuda/mma_tile.cuh"
#include "kernels/gate_layernorm.h"

namespace wedge::cu::gate_rows {

inline constexpr int kRows = 32, kWidest = 256;
inline constexpr int kWarps = 8, kThreads = kWarps * kWarp;
inline constexpr int kPitch = kWidest + 8;          // of float32 rows: accesses of 8 bytes meet no bank twice
inline constexpr int kValues = 2 * kRows * kPitch;  // float32, of two such matrices
inline constexpr std::size_t kMostBytes = 226 * 1024;  // of shared memory that one of the two asks for
inline constexpr int kTile = kRows * kTileDepth;       // elements of a tile of 32 columns

}  // namespace wedge::cu::gate_rows

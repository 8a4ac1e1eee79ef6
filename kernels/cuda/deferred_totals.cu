// The last pass of many column sums in one kernel: column_totals_kernel over a table. A row of it is at most
// 256 columns, 32 blocks, so that a block finds its row by its place in the grid, and a bias of 1,024 numbers
// beside others of 256 leaves no blocks without work.
#include "kernels/deferred_totals.h"

#include <algorithm>

#include "kernels/cuda/column_sums.cuh"

namespace wedge::cu {

void add_totals(void* stream, const DeferredTable& table, int count) {
  std::int64_t columns = 0;
  for (int i = 0; i < count; ++i) columns = std::max(columns, table.of[i].columns);
  launch("column_totals", column_totals_kernel<DeferredTable, float>,
         dim3(blocks_for(columns, kTotalColumns), static_cast<unsigned>(count)), kTileThreads, 0, stream,
         table);
}

}  // namespace wedge::cu

#include "tensor_cores.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "tensor/check.h"
#include "tensor/dtype.h"

namespace wedge::emulator {
namespace {

// A copy of cp.async that has been asked for. The GPU may do it at once or as late as the wait, so a draw
// decides: a kernel that forgets to wait finds the old bytes, one that refills a buffer too early destroys
// what others still read.
struct Copy {
  void* to;
  const void* from;  // null: zeros
  int group;

  void complete() const {
    if (from == nullptr) {
      std::memset(to, 0, 16);
    } else {
      std::memcpy(to, from, 16);
    }
  }
};

struct ThreadCopies {
  std::uint64_t block = 0;  // what follows belongs to this block
  int committed = 0;        // groups
  std::vector<Copy> late;
};

ThreadCopies& copies() {
  static std::vector<ThreadCopies>* const all = new std::vector<ThreadCopies>(1024);
  const Running now = running();
  ThreadCopies& own = (*all)[now.thread];
  if (own.block != now.block) {
    own.block = now.block;
    own.committed = 0;
    own.late.clear();
  }
  return own;
}

bool aligned_16(const void* p) {
  return reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
}

struct MatrixRecord {
  const void* row;
  std::uint32_t* r;
};

std::uint16_t element(void* const* records, int matrix, int row, int column) {
  std::uint16_t value;
  const void* const start = static_cast<const MatrixRecord*>(records[matrix * 8 + row])->row;
  std::memcpy(&value, static_cast<const std::byte*>(start) + column * 2, sizeof value);
  return value;
}

// Matrix i is 8 rows of 8 16-bit elements; lane 8 i + j brings the address of its row j. Lane l gets from it,
// in r[i], elements 2 (l mod 4) and the next of row l / 4, or of column l / 4 when transposed.
template <bool kTransposed>
void complete_ldmatrix(void* const* records, unsigned) {
  for (int lane = 0; lane < 32; ++lane) {
    std::uint32_t* const r = static_cast<const MatrixRecord*>(records[lane])->r;
    const int line = lane / 4, first = lane % 4 * 2;
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t low =
          kTransposed ? element(records, i, first, line) : element(records, i, line, first);
      const std::uint32_t high =
          kTransposed ? element(records, i, first + 1, line) : element(records, i, line, first + 1);
      r[i] = low | high << 16;
    }
  }
}

void ldmatrix(const Collective& what, std::uint32_t* r, const void* row, const char* file, int line) {
  WEDGE_CHECK(aligned_16(row) && in_shared(row, 16), "{}: a row must be 16 aligned bytes of a shared array",
              what.name);
  MatrixRecord record{row, r};
  collective(what, ~0u, &record, file, line);
}

struct MmaRecord {
  float* d;
  const std::uint32_t *a, *b;
};

float half_of(std::uint32_t pair, int which) {
  return std::bit_cast<float>(which == 0 ? pair << 16 : pair & 0xffff0000u);
}

// The fragments of PTX: lane l = 4 g + t holds, of A [16, 16], rows g and g + 8 at columns 2t, 2t + 1 (a[0],
// a[1]) and 2t + 8, 2t + 9 (a[2], a[3]); of B [16, 8], column g at rows 2t, 2t + 1 (b[0]) and 2t + 8, 2t + 9
// (b[1]); of D [16, 8], row g (d[0], d[1]) and g + 8 (d[2], d[3]) at columns 2t, 2t + 1.
void complete_mma(void* const* records, unsigned) {
  float a[16][16], b[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& own = *static_cast<const MmaRecord*>(records[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int which = 0; which < 2; ++which) {
      for (int i = 0; i < 4; ++i) a[g + i % 2 * 8][2 * t + i / 2 * 8 + which] = half_of(own.a[i], which);
      for (int i = 0; i < 2; ++i) b[2 * t + i * 8 + which][g] = half_of(own.b[i], which);
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    const auto& own = *static_cast<const MmaRecord*>(records[lane]);
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
      double sum = own.d[i];
      for (int k = 0; k < 16; ++k) sum += static_cast<double>(a[row][k]) * b[k][column];
      own.d[i] = static_cast<float>(sum);
    }
  }
}

}  // namespace

void cp_async_16(void* shared, const void* global, bool valid) {
  WEDGE_CHECK(aligned_16(shared) && in_shared(shared, 16),
              "cp_async_16: the target must be 16 aligned bytes of a "
              "shared array");
  WEDGE_CHECK(!valid || (aligned_16(global) && is_device_memory(global, 16)),
              "cp_async_16: the source must be 16 aligned bytes of device memory");
  ThreadCopies& own = copies();
  const Copy copy{shared, valid ? global : nullptr, own.committed};
  if (draw() % 2 == 0) {
    copy.complete();
  } else {
    own.late.push_back(copy);
  }
}

void cp_async_commit() {
  ++copies().committed;
}

void cp_async_wait(int groups) {
  ThreadCopies& own = copies();
  const int done = own.committed - groups;  // groups up to here
  std::erase_if(own.late, [&](const Copy& copy) {
    if (copy.group >= done) return false;
    copy.complete();
    return true;
  });
}

void ldmatrix_x4(std::uint32_t r[4], const void* row, const char* file, int line) {
  ldmatrix({"ldmatrix_x4", complete_ldmatrix<false>}, r, row, file, line);
}
void ldmatrix_x4_trans(std::uint32_t r[4], const void* row, const char* file, int line) {
  ldmatrix({"ldmatrix_x4_trans", complete_ldmatrix<true>}, r, row, file, line);
}

void mma_m16n8k16_bf16(float d[4], const std::uint32_t a[4], const std::uint32_t b[2], const char* file,
                       int line) {
  MmaRecord record{d, a, b};
  collective({"mma_m16n8k16_bf16", complete_mma}, ~0u, &record, file, line);
}

std::uint32_t pack_bf16(float low, float high) {
  return BFloat16(low).bits | static_cast<std::uint32_t>(BFloat16(high).bits) << 16;
}

float exp2_approx(float x) {
  const float y = x == 0 ? 1.0f : off_by_at_most(2, std::exp2(x), x);
  return y < std::numeric_limits<float>::min() ? 0.0f : y;
}

float reciprocal_approx(float x) {
  return off_by_at_most(1, 1 / x, x);
}

}  // namespace wedge::emulator

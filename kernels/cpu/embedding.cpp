#include "kernels/embedding.h"

#include "kernels/cpu/math.h"
#include "kernels/cpu/parallel.h"

namespace wedge::cpu {

template <class T>
void embedding_forward(const Exec&, const EmbeddingForward<T>& args) {
  parallel_rows(args.rows, args.D, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t)
      std::copy_n(args.weight + (t * args.step + args.ids[t]) * args.D, args.D, args.y + t * args.D);
  });
}

template <class T>
void embedding_backward(const Exec&, const EmbeddingBackward<T>& args) {
  if (!args.dweight_add)
    parallel_rows(args.V, args.D, [&](std::int64_t begin, std::int64_t end) {
      std::fill(args.dweight + begin * args.D, args.dweight + end * args.D, T(0));
    });
  // Threads own columns, so equal ids never meet.
  parallel_for(args.D, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = 0; t < args.rows; ++t)
      as_array(args.dweight + (t * args.step + args.ids[t]) * args.D + begin, end - begin) +=
          as_array(args.dy + t * args.D + begin, end - begin);
  });
}

}  // namespace wedge::cpu

namespace wedge {
WEDGE_INSTANTIATE_CPU(embedding_forward, EmbeddingForward)
WEDGE_INSTANTIATE_CPU(embedding_backward, EmbeddingBackward)
}  // namespace wedge

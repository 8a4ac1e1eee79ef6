// Every case. One include and one line in each list for every file here.
#pragma once

#include "tests/cases/causal_attention.h"
#include "tests/cases/cross_entropy.h"
#include "tests/cases/dropout.h"
#include "tests/cases/elementwise.h"
#include "tests/cases/embedding.h"
#include "tests/cases/feed_forward.h"
#include "tests/cases/gate_blend.h"
#include "tests/cases/gate_layernorm.h"
#include "tests/cases/layernorm.h"
#include "tests/cases/linear.h"
#include "tests/cases/linear_cross_entropy.h"
#include "tests/cases/matmul.h"
#include "tests/cases/plucker_linear.h"
#include "tests/cases/reduce.h"
#include "tests/cases/self_attention.h"
#include "tests/cases/shape.h"
#include "tests/cases/softmax.h"

namespace wedge::cases {

// The sizes that the benchmark times: those of the founding configuration.
inline std::vector<Case> bench_cases() {
  return plucker_linear_bench() + gate_blend_bench() + gate_layernorm_bench() + self_attention_bench() +
         causal_attention_bench() + linear_bench() + feed_forward_bench() + layernorm_bench() +
         residual_layernorm_bench() + linear_cross_entropy_bench() + dropout_bench() + embedding_bench() +
         softmax_bench() + cross_entropy_bench() + matmul_bench() + elementwise_bench() + reduce_bench();
}

}  // namespace wedge::cases

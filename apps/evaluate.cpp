#include "apps/evaluate.h"

#include "apps/batch_feed.h"

namespace wedge::app {

Evaluation evaluate(LanguageModel& model, const data::Blocks& blocks, std::int64_t batch_size,
                    const std::function<void()>& before_batch) {
  const NoGradGuard no_grad;
  model.set_training(false);
  const data::Batches batches(blocks, batch_size, false, 0);
  BatchFeed feed(blocks, batches, model.device());
  Evaluation result;
  double sum_over_tokens = 0, sum_over_batches = 0;
  for (std::int64_t i = 0; i < batches.count(); ++i) {
    before_batch();
    const auto [inputs, targets] = feed.at(i);
    const double loss = model.loss(inputs, targets).item();
    const std::int64_t tokens = targets.numel();
    sum_over_batches += loss;
    sum_over_tokens += loss * static_cast<double>(tokens);
    result.tokens += tokens;
  }
  result.mean_over_batches = sum_over_batches / static_cast<double>(batches.count());
  result.mean_over_tokens = sum_over_tokens / static_cast<double>(result.tokens);
  return result;
}

}  // namespace wedge::app

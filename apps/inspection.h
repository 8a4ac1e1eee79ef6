// What a model's mixers do over a text, in numbers. Everything is computed in float64.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "apps/statistics.h"
#include "models/language_model.h"

namespace wedge::app {

// Of the pairs (t, t - lag) of a layer, with p = z_t ∧ z_{t-lag} and p̂ = p / max(‖p‖, 1e-6); all is NaN for
// a lag that is not shorter than the text:
struct LagInspection {
  std::int64_t lag = 0;
  Distribution norm;                   // ‖p‖
  Distribution sine;                   // ‖p‖ / (‖z_t‖ ‖z_{t-lag}‖), 0 where a state is 0
  double collapsed = 0;                // share of the pairs with ‖p‖ <= 1e-6
  double effective_rank = 0;           // of the p̂
  std::vector<double> mean_direction;  // mean of the p̂; its length is 1 where all point the same way
};

struct GrassmannInspection {
  Distribution alpha;         // the gate, over positions and channels
  Distribution state_norm;    // ‖z_t‖
  double effective_rank = 0;  // of the p̄_t, the means over the lags that W_plu sees
  std::vector<LagInspection> lags;
};

struct HeadInspection {
  double entropy = 0;           // -Σ w ln w of a position's weights, in nats, mean over positions
  double relative_entropy = 0;  // the same over its largest value ln(t + 1), mean over positions t > 0
  double distance = 0;          // Σ w (t - s), mean over positions
};

struct LayerInspection {
  std::optional<GrassmannInspection> grassmann;
  std::vector<HeadInspection> heads;
};

// From a layer to the next one. (Each reduces by a W_red of its own, so an angle compares coordinates, not
// planes of one space.)
struct Drift {
  // Degrees between the mean directions of a lag that both have.
  std::vector<std::pair<std::int64_t, double>> by_lag;
  // Degrees between the spaces that the mean directions of all lags span.
  std::vector<double> principal_angles;
};

struct Inspection {
  std::int64_t tokens = 0, context_len = 0;
  std::vector<LayerInspection> layers;
  std::vector<Drift> drift;  // one less than layers for Grassmann, else none
};

// Runs the model (in evaluation mode) over blocks of ids, each of the same length. Ranks take at most
// kRankRows pairs, evenly spread.
inline constexpr std::int64_t kRankRows = 4096;
Inspection inspect(const LanguageModel& model, const std::vector<std::vector<std::int32_t>>& blocks);

bool is_grassmann(const Inspection& inspection);

}  // namespace wedge::app

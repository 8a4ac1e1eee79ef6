// What a model's mixers do over a text, in numbers. Everything is computed in float64.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "apps/config.h"
#include "apps/html.h"
#include "models/language_model.h"

namespace wedge::app {

// Quantiles interpolate linearly between the sorted values, as NumPy's do.
struct Distribution {
  static constexpr std::array<double, 7> kLevels = {0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99};
  std::int64_t count = 0;
  double mean = 0, deviation = 0, min = 0, max = 0;
  std::array<double, 7> quantiles{};
};
// Of no values all is 0.
Distribution distribution_of(std::vector<double> values);

// exp of the entropy of the singular values σ_i / Σ σ of a matrix, its rows given one after another: how many
// directions they use (Roy and Vetterli, "The effective rank", EUSIPCO 2007). 0 for a matrix of zeros.
double effective_rank(std::span<const double> rows, std::int64_t width);

// Angles in degrees, ascending, between the spaces that two sets of vectors of one width span (Björck and
// Golub 1973).
std::vector<double> principal_angles(const std::vector<std::vector<double>>& a,
                                     const std::vector<std::vector<double>>& b);

// Of the pairs (t, t - lag) of a layer, with p = z_t ∧ z_{t-lag} and p̂ = p / max(‖p‖, 1e-6):
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
  std::vector<GrassmannInspection> grassmann;  // one, or none
  std::vector<HeadInspection> heads;
};

struct Inspection {
  std::int64_t tokens = 0, context_len = 0;
  std::vector<LayerInspection> layers;
};

// Runs the model (in evaluation mode) over blocks of ids, each of the same length. Ranks take at most
// kRankRows pairs, evenly spread.
inline constexpr std::int64_t kRankRows = 4096;
Inspection inspect(const LanguageModel& model, const std::vector<std::vector<std::int32_t>>& blocks);

// With the drift between layers: the angle between the mean directions of each lag that both have, and the
// principal angles between the spaces that the mean directions of all lags span. (Each layer reduces by a
// W_red of its own, so an angle compares coordinates, not planes of one space.)
Json to_json(const Inspection& inspection);

// Adds the pictures and tables to a page.
void describe(const Inspection& inspection, HtmlPage& page);
// The same in a few lines for a terminal.
std::string summary(const Inspection& inspection);

}  // namespace wedge::app

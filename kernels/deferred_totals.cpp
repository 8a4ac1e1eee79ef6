#include "kernels/deferred_totals.h"

#include <algorithm>
#include <utility>

namespace wedge::cu {
namespace {

thread_local DeferredTotals* t_innermost = nullptr;

std::span<const float> place_of(const ColumnTotal<float>& total) {
  return {total.out, static_cast<std::size_t>(total.columns)};
}

bool overlap(std::span<const float> a, std::span<const float> b) {
  return a.data() < b.data() + b.size() && b.data() < a.data() + a.size();
}

}  // namespace

DeferredTotals::DeferredTotals(void* stream) : around_(std::exchange(t_innermost, this)), stream_(stream) {}

DeferredTotals::~DeferredTotals() {
  t_innermost = around_;
}

void DeferredTotals::may_wait(std::span<const float> to) {
  if (!lets_wait(to)) places_.push_back(to);
}

void DeferredTotals::settle(std::span<const float> to) {
  for (DeferredTotals* scope = t_innermost; scope != nullptr; scope = scope->around_)
    if (scope->has(to)) scope->add_up();
}

void DeferredTotals::add_up() {
  const int count = std::exchange(count_, 0);
  const auto held = std::exchange(held_, {});
  held_bytes_ = 0;
  if constexpr (kWithCuda)
    if (count > 0) add_totals(stream_, table_, count);
}

bool DeferredTotals::take(void* stream, const std::shared_ptr<Storage>& partials,
                          std::span<const ColumnTotal<float>> totals) {
  DeferredTotals* const scope = t_innermost;
  if (scope == nullptr || stream != scope->stream_) return false;
  for (const ColumnTotal<float>& total : totals)
    if (!scope->lets_wait(place_of(total))) return false;
  for (const ColumnTotal<float>& total : totals) scope->push(total, partials);
  if (scope->held_bytes_ > kMostBytes) scope->add_up();
  return true;
}

// The last ones are those that are asked for.
bool DeferredTotals::lets_wait(std::span<const float> to) const {
  return std::any_of(places_.rbegin(), places_.rend(), [&](std::span<const float> place) {
    return place.data() <= to.data() && to.data() + to.size() <= place.data() + place.size();
  });
}

bool DeferredTotals::has(std::span<const float> to) const {
  return std::any_of(table_.of, table_.of + count_,
                     [&](const ColumnTotal<float>& total) { return overlap(place_of(total), to); });
}

void DeferredTotals::push(const ColumnTotal<float>& total, const std::shared_ptr<Storage>& partials) {
  if (has(place_of(total))) add_up();  // one place twice: one after the other
  for (std::int64_t c = 0; c < total.columns; c += DeferredTable::kColumns) {
    if (count_ == DeferredTable::kMost) add_up();
    if (held_.empty() || held_.back() != partials) {
      held_.push_back(partials);
      held_bytes_ += partials->bytes();
    }
    ColumnTotal<float>& part = table_.of[count_++] = total;
    part.partials += c;
    part.out += c;
    part.columns = std::min(total.columns - c, DeferredTable::kColumns);
  }
}

PartialSums::PartialSums(std::int64_t pieces_, std::int64_t columns_) : pieces(pieces_), columns(columns_) {
  if (pieces > 0)
    partials =
        std::make_shared<Storage>(static_cast<std::size_t>(pieces * columns) * sizeof(float), Device::cuda);
}

void add_up(void* stream, const PartialSums& sums, Sink<float> to) {
  const ColumnTotal<float> total{
      sums.data(), to.data, sums.columns, sums.columns, static_cast<std::int32_t>(sums.pieces), to.add};
  if (DeferredTotals::take(stream, sums.partials, {&total, 1})) return;
  DeferredTotals at_once(stream);
  at_once.may_wait(place_of(total));
  DeferredTotals::take(stream, sums.partials, {&total, 1});
  at_once.add_up();
}

}  // namespace wedge::cu

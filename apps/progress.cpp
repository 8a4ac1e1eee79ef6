#include "apps/progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "apps/console.h"
#include "apps/format.h"

namespace wedge::app {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t kLinesPerEpoch = 10;
constexpr std::chrono::milliseconds kRedraw{100};

class ConsoleProgress : public ProgressSink {
 public:
  ~ConsoleProgress() override {
    if (line_is_open_) print("\n");
    flush_output();
  }

  void start(const RunStart& start) override {
    start_ = start;
    begin_ = Clock::now();
    print(fmt::format("{}: {}{}\n", start.title, counted(start.total_steps, "step"),
                      start.first_step > 0 ? fmt::format(", going on after {}", start.first_step) : ""));
    flush_output();
  }

  void step(const StepReport& report) override {
    const std::int64_t done = report.step + 1;
    if (!due(done)) return;
    const double elapsed = std::chrono::duration<double>(Clock::now() - begin_).count();
    const double left = elapsed / static_cast<double>(done - start_.first_step) *
                        static_cast<double>(start_.total_steps - done);
    std::string line = fmt::format("epoch {}/{}  step {}/{}  loss {:.4f}", report.epoch, start_.num_epochs,
                                   done, start_.total_steps, report.loss);
    const std::string pace =
        fmt::format("  {:.0f} tokens/s  {} left", report.tokens_per_second, format_duration(left));
    const std::string perplexity = fmt::format("  ppl {}", format_perplexity(std::exp(report.loss)));
    // A terminal's line that fills its width or more would not be rewritten, but left behind.
    const std::size_t room = terminal_ ? output_columns() - 1 : std::string::npos;
    if (line.size() + perplexity.size() + pace.size() <= room) line += perplexity;
    line = (line + pace).substr(0, room);
    // ESC [K clears what a longer line before left on the terminal.
    print(terminal_ ? "\r" + line + "\x1b[K" : line + "\n");
    line_is_open_ = terminal_;
    flush_output();
  }

  void epoch(const EpochReport& report) override {
    print(fmt::format("{}epoch {}/{}  train loss {:.4f}  validation loss {:.4f}  ppl {}{}\n",
                      terminal_ ? "\r\x1b[K" : "", report.epoch, start_.num_epochs, report.train_loss,
                      report.val_loss, format_perplexity(std::exp(report.val_loss)),
                      report.best ? "  (best so far)" : ""));
    line_is_open_ = false;
    flush_output();
  }

 private:
  bool due(std::int64_t done) {
    if (!terminal_)
      return done % std::max<std::int64_t>(1, start_.steps_per_epoch / kLinesPerEpoch) == 0 ||
             done == start_.total_steps;
    const Clock::time_point now = Clock::now();
    if (now - drawn_ < kRedraw && done != start_.total_steps) return false;
    drawn_ = now;
    return true;
  }

  const bool terminal_ = output_is_terminal();
  RunStart start_;
  Clock::time_point begin_, drawn_;
  bool line_is_open_ = false;
};

}  // namespace

std::unique_ptr<ProgressSink> make_console_progress() {
  return std::make_unique<ConsoleProgress>();
}

}  // namespace wedge::app

#include "apps/gnuplot.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>

#include "tensor/check.h"

extern char** environ;

namespace wedge::app {

namespace {

// Okabe and Ito's colours, which colour-blind readers can tell apart (Color Universal Design, 2008).
constexpr const char* kPalette[] = {"0072B2", "D55E00", "009E73", "CC79A7", "E69F00", "56B4E9", "000000"};

std::string color(std::size_t index, bool pale = false) {
  return fmt::format("'#{}{}'", pale ? "A0" : "", kPalette[index % std::size(kPalette)]);
}

// More series than colours are told apart by their dashes.
std::size_t dash(std::size_t index) {
  return 1 + index / std::size(kPalette);
}

// A text between double quotes, as gnuplot reads it.
std::string text(const std::string& raw) {
  std::string quoted = "\"";
  for (const char c : raw) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return quoted + "\"";
}

// The same for the label of a tic, which gnuplot takes for a format.
std::string tic_label(const std::string& raw) {
  std::string format;
  for (const char c : raw) format += c == '%' ? std::string("%%") : std::string(1, c);
  return text(format);
}

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

File temporary() {
  File file(std::tmpfile());
  WEDGE_CHECK(file != nullptr, "cannot make a temporary file: {}", std::strerror(errno));
  return file;
}

std::string contents(std::FILE* file) {
  std::string all;
  std::rewind(file);
  char buffer[1 << 16];
  while (const std::size_t n = std::fread(buffer, 1, sizeof buffer, file)) all.append(buffer, n);
  return all;
}

std::string run_gnuplot(const std::string& script) {
  const File in = temporary(), out = temporary(), err = temporary();
  WEDGE_CHECK(
      std::fwrite(script.data(), 1, script.size(), in.get()) == script.size() && std::fflush(in.get()) == 0,
      "cannot write a temporary file: {}", std::strerror(errno));
  std::rewind(in.get());

  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, ::fileno(in.get()), STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, ::fileno(out.get()), STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, ::fileno(err.get()), STDERR_FILENO);
  char name[] = "gnuplot", from_stdin[] = "-";
  char* argv[] = {name, from_stdin, nullptr};
  pid_t child = 0;
  const int failure = ::posix_spawnp(&child, name, &actions, nullptr, argv, environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (failure != 0)
    throw NoGnuplot(fmt::format("cannot run gnuplot: {}; pictures need it (Debian: gnuplot-nox)",
                                std::strerror(failure)));
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  std::string picture = contents(out.get());
  std::string complaint = contents(err.get());
  while (!complaint.empty() && (complaint.back() == '\n' || complaint.back() == ' ')) complaint.pop_back();
  WEDGE_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0 && !picture.empty(), "gnuplot: {}",
              complaint.empty() ? "failed without a word" : complaint);
  return picture;
}

std::string header(ImageFormat format, const std::string& title, int height) {
  const std::string terminal =
      format == ImageFormat::svg
          ? fmt::format("set terminal svg noenhanced size 900,{} font 'sans-serif,13' background '#ffffff'\n",
                        height)
          : fmt::format(
                "set terminal pngcairo noenhanced size 1800,{} font 'sans,13' fontscale 1.5 linewidth 2 "
                "pointscale 2 background '#ffffff'\n",
                2 * height);
  return terminal + fmt::format("set encoding utf8\nset title {}\n", text(title));
}

std::string script_of(const Curves& curves, ImageFormat format) {
  std::string script = header(format, curves.title, 520);
  script += fmt::format(
      "set xlabel {}\nset ylabel {}\nset grid lc rgb '#dddddd'\nset border 3\nset tics nomirror\n"
      "set key outside right top vertical Left reverse samplen 2\n",
      text(curves.x_label), text(curves.y_label));
  if (curves.whole_x) {
    double low = INFINITY, high = -INFINITY;
    for (const Series& s : curves.series)
      for (const double x : s.x) low = std::min(low, x), high = std::max(high, x);
    const double step = std::max(1.0, std::ceil((high - low) / 12));
    script += fmt::format("set xtics {}\nset xrange [{}:{}]\n", step, low - 0.2, high + 0.2);
  }
  if (curves.y_max) script += fmt::format("set yrange [*:{}]\n", *curves.y_max);
  std::string plots;
  for (std::size_t i = 0; i < curves.series.size(); ++i) {
    const Series& s = curves.series[i];
    script += fmt::format("$s{} << END\n", i);
    for (std::size_t k = 0; k < s.x.size(); ++k)
      if (std::isfinite(s.y[k])) script += fmt::format("{} {}\n", s.x[k], s.y[k]);
    script += "END\n";
    plots += fmt::format("{}$s{} using 1:2 with {} dt {} lw {} lc rgb {} {} {}",
                         plots.empty() ? "" : ", \\\n  ", i, s.points ? "linespoints" : "lines",
                         dash(s.color), s.thin ? 1 : 2, color(s.color, s.thin), s.points ? "pt 7 ps 0.6" : "",
                         s.label.empty() ? "notitle" : "title " + text(s.label));
  }
  return script + "plot " + plots + "\n";
}

// The axis from `low` to `high`: few marks, all of them written alike.
std::string bar_axis(double low, double high, bool logarithmic) {
  const std::string range = fmt::format("set xrange [{}:{}]\n", low, high);
  if (logarithmic) {
    const double decades = std::log10(high / low);
    return range + fmt::format("set logscale x\nset format x '%.0e'\nset xtics {}\nunset mxtics\n",
                               std::pow(10, std::max(1.0, std::ceil(decades / 5))));
  }
  const double least = high / 5, power = std::pow(10, std::floor(std::log10(least)));
  const double step = power * (least <= power ? 1 : least <= 2 * power ? 2 : least <= 5 * power ? 5 : 10);
  const int decimals = static_cast<int>(std::max(0.0, -std::floor(std::log10(step) + 1e-9)));
  return range + fmt::format("set format x '{}'\nset xtics {}\n",
                             high < 1e8 ? fmt::format("%.{}f", std::min(decimals, 9)) : "%g", step);
}

std::string script_of(const Bars& bars, ImageFormat format) {
  const auto count = static_cast<int>(bars.bars.size());
  std::string script = header(format, bars.title, 110 + 34 * count);
  double largest = bars.line.value_or(0), smallest = bars.line.value_or(INFINITY);
  std::size_t width = 0;  // of what stands beside a bar
  for (const Bar& bar : bars.bars) {
    largest = std::max(largest, bar.value);
    smallest = std::min(smallest, bar.value);
    width = std::max(width, bar.text.size());
  }
  const double low = bars.logarithmic ? std::pow(10, std::floor(std::log10(smallest))) : 0;
  script += fmt::format(
      "set xlabel {}\nset border 1\nset tics nomirror\nset ytics scale 0\nunset key\nset grid x lc rgb "
      "'#dddddd'\nset rmargin {}\nset yrange [{}:0.4]\nset style fill solid 0.9 border\n",
      text(bars.x_label), width + 3, count + 0.6);
  script += bar_axis(low, largest > 0 ? largest : 1, bars.logarithmic);
  if (bars.line)
    script += fmt::format("set arrow from {0},{1} to {0},0.4 nohead dt 2 lw 2 lc rgb '#555555' front\n",
                          *bars.line, count + 0.6);
  std::string tics, plots;
  for (int i = 0; i < count; ++i) {
    const Bar& bar = bars.bars[static_cast<std::size_t>(i)];
    tics += fmt::format("{}{} {}", tics.empty() ? "" : ", ", tic_label(bar.label), i + 1);
    script += fmt::format("set label {} at {},{} offset 0.8,0 front\n", text(bar.text), bar.value, i + 1);
    script += fmt::format("$b{} << END\n{} {}\nEND\n", i, bar.value, i + 1);
    plots += fmt::format("{}$b{} using ({}):2:({}):1:($2-0.32):($2+0.32) with boxxyerror {} lc rgb {}",
                         plots.empty() ? "" : ", \\\n  ", i, low, low,
                         bar.hollow ? "fs empty lw 2" : "fs solid 0.9", color(bar.color));
  }
  return script + fmt::format("set ytics ({})\nplot {}\n", tics, plots);
}

}  // namespace

std::string draw(const Curves& curves, ImageFormat format) {
  return run_gnuplot(script_of(curves, format));
}

std::string draw(const Bars& bars, ImageFormat format) {
  return run_gnuplot(script_of(bars, format));
}

}  // namespace wedge::app

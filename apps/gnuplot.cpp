#include "apps/gnuplot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "apps/display_text.h"
#include "apps/gnuplot_process.h"
#include "apps/html.h"
#include "tensor/round_up.h"

namespace wedge::app {

namespace {

// Okabe and Ito's colours, which colour-blind readers can tell apart (Color Universal Design, 2008).
constexpr const char* kPalette[] = {"0072B2", "D55E00", "009E73", "CC79A7", "E69F00", "56B4E9", "000000"};

// In characters; pixels are those of the SVG, a PNG has twice as many.
constexpr std::size_t kLongestLabel = 80, kLongestTitle = 100;
constexpr int kWidth = 900;
constexpr double kCharacter = 9.1;  // what gnuplot takes a character's width to be

std::string color(std::size_t index, bool pale = false) {
  return fmt::format("'#{}{}'", pale ? "A0" : "", kPalette[index % std::size(kPalette)]);
}

// More series than colours are told apart by their dashes.
std::size_t dash(std::size_t index) {
  return 1 + index / std::size(kPalette);
}

std::string text(const std::string& raw) {
  return quoted_for_gnuplot(raw);
}

// Labels that fit into a picture; those that are alike once they are shortened get a number.
class Shortener {
 public:
  std::string operator()(const std::string& raw) {
    const std::string label = one_line(raw);
    const std::string shortened = shorten_middle(label, kLongestLabel);
    if (shortened == label) return label;
    const int number = ++count_[shortened];
    return number == 1 ? shortened : fmt::format("{} [{}]", shorten_middle(label, kLongestLabel - 6), number);
  }

 private:
  std::map<std::string, int> count_;
};

int pixels(std::size_t characters) {
  return static_cast<int>(kCharacter * static_cast<double>(characters));
}

std::string header(ImageFormat format, const std::string& title, int width, int height) {
  const std::string terminal =
      format == ImageFormat::svg
          ? fmt::format("set terminal svg noenhanced size {},{} font 'sans-serif,13' background '#ffffff'\n",
                        width, height)
          : fmt::format(
                "set terminal pngcairo noenhanced size {},{} font 'sans,13' fontscale 1.5 linewidth 2 "
                "pointscale 2 background '#ffffff'\n",
                2 * width, 2 * height);
  return terminal +
         fmt::format("set encoding utf8\nset title {}\n", text(shorten_middle(title, kLongestTitle)));
}

// The legend stands below, in as many columns as there is room for; the picture grows by its rows, and for the
// second column of a long one it becomes wider.
struct Legend {
  int width = kWidth, columns = 1, rows = 0;
};

Legend legend_of(const std::vector<std::string>& labels) {
  std::size_t longest = 0;
  int count = 0;
  for (const std::string& label : labels) {
    longest = std::max(longest, count_characters(label));
    count += !label.empty();
  }
  // Besides columns, each with a sample of its line, the axis takes up to 100 pixels. Where gnuplot found room
  // for fewer, there were more rows than the height was made for.
  const int column = pixels(longest + 8), for_two = 2 * column + 100;
  const int width = count > 12 && for_two <= 1100 ? std::max(kWidth, for_two) : kWidth;
  const int columns = std::clamp((width - 100) / column, 1, 6);
  return {width, columns, ceil_div(count, columns)};
}

std::string script_of(const Curves& curves, ImageFormat format) {
  std::vector<std::string> labels;
  Shortener shortened;
  for (const Series& s : curves.series) labels.push_back(shortened(s.label));
  const Legend legend = legend_of(labels);
  std::string script = header(format, curves.title, legend.width, 460 + 20 * legend.rows);
  script += fmt::format(
      "set xlabel {}\nset ylabel {}\nset grid lc rgb '#dddddd'\nset border 3\nset tics nomirror\n"
      "set key bmargin center horizontal Left reverse samplen 4 height 0.5 maxcols {}\n",
      text(curves.x_label), text(curves.y_label), legend.columns);
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
                         labels[i].empty() ? "notitle" : "title " + text(labels[i]));
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

// A dashed line over the rows of each group of neighbours that share it.
std::string lines_of(const std::vector<Bar>& bars) {
  std::string script;
  for (std::size_t begin = 0, end = 0; begin < bars.size(); begin = end) {
    for (end = begin; end < bars.size() && bars[end].line == bars[begin].line;) ++end;
    if (bars[begin].line)
      script +=
          fmt::format("set arrow from {0},{1} to {0},{2} nohead dt 2 lw 2 lc rgb '#555555' front\n",
                      *bars[begin].line, static_cast<double>(begin) + 0.5, static_cast<double>(end) + 0.5);
  }
  return script;
}

std::string script_of(const Bars& bars, ImageFormat format) {
  const auto count = static_cast<int>(bars.bars.size());
  std::vector<std::string> labels;
  Shortener shortened;
  double largest = 0, smallest = INFINITY;
  std::size_t label_width = 0, text_width = 0;  // of what stands before and beside a bar
  for (const Bar& bar : bars.bars) {
    labels.push_back(shortened(bar.label));
    label_width = std::max(label_width, count_characters(labels.back()));
    text_width = std::max(text_width, count_characters(bar.text));
    for (const double value : {bar.value, bar.line.value_or(bar.value)}) {
      largest = std::max(largest, value);
      smallest = std::min(smallest, value);
    }
  }
  const double low = bars.logarithmic ? std::pow(10, std::floor(std::log10(smallest))) : 0;
  const int width = std::max(kWidth, 500 + pixels(label_width + text_width));
  const double row = std::min(34.0, 15000.0 / count);  // a PNG is at most 32,767 pixels high
  std::string script = header(format, bars.title, width, 110 + static_cast<int>(row * count));
  script += fmt::format(
      "set xlabel {}\nset border 1\nset tics nomirror\nunset ytics\nunset key\nset grid x lc rgb "
      "'#dddddd'\nset lmargin {}\nset rmargin {}\nset yrange [{}:0.4]\nset style fill solid 0.9 border\n",
      text(bars.x_label), label_width + 2, text_width + 3, count + 0.6);
  script += bar_axis(low, largest > 0 ? largest : 1, bars.logarithmic);
  script += lines_of(bars.bars);
  std::string plots;
  for (int i = 0; i < count; ++i) {
    const Bar& bar = bars.bars[static_cast<std::size_t>(i)];
    // No tics: a tic's label is a format, and cut off after 50 characters.
    script += fmt::format("set label {} right at graph 0,first {} offset -1,0\n",
                          text(labels[static_cast<std::size_t>(i)]), i + 1);
    script += fmt::format("set label {} at {},{} offset 0.8,0 front\n", text(bar.text), bar.value, i + 1);
    script += fmt::format("$b{} << END\n{} {}\nEND\n", i, bar.value, i + 1);
    plots += fmt::format("{}$b{} using ({}):2:({}):1:($2-0.32):($2+0.32) with boxxyerror {} lc rgb {}",
                         plots.empty() ? "" : ", \\\n  ", i, low, low,
                         bar.hollow ? "fs empty lw 2" : "fs solid 0.9", color(bar.color));
  }
  return script + "plot " + plots + "\n";
}

// gnuplot's <title>s are names of its variables, which browsers show beside the mouse.
std::string with_title(std::string svg, const std::string& title) {
  const std::string open = "<title>", close = "</title>";
  bool first = true;
  for (std::size_t at = svg.find(open); at != std::string::npos; at = svg.find(open, at)) {
    const std::size_t end = svg.find(close, at);
    if (end == std::string::npos) break;
    const std::string ours = first ? open + html_escape(one_line(title)) + close : "";
    svg.replace(at, end + close.size() - at, ours);
    at += ours.size();
    first = false;
  }
  return svg;
}

std::string draw_script(const std::string& script, const std::string& title, ImageFormat format) {
  const std::string picture = run_gnuplot(script, format);
  return format == ImageFormat::svg ? with_title(picture, title) : picture;
}

}  // namespace

std::string draw(const Curves& curves, ImageFormat format) {
  return draw_script(script_of(curves, format), curves.title, format);
}

std::string draw(const Bars& bars, ImageFormat format) {
  return draw_script(script_of(bars, format), bars.title, format);
}

}  // namespace wedge::app

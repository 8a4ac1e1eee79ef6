// Pictures, drawn by gnuplot.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tensor/check.h"

namespace wedge::app {

enum class ImageFormat { svg, png };

struct Series {
  std::string label;  // empty: not in the legend
  std::vector<double> x, y;
  std::size_t color = 0;  // index into the palette, which repeats
  bool thin = false;      // a pale line behind the others
  bool points = false;    // a mark at each value
};

struct Curves {
  std::string title, x_label, y_label;
  std::vector<Series> series;
  std::optional<double> y_max = {};  // what lies above is cut off
  bool whole_x = false;              // x counts things: only whole numbers are marked
};

struct Bar {
  std::string label;
  double value = 0;
  std::string text;  // what stands beside it
  std::size_t color = 0;
  bool hollow = false;              // of somebody else
  std::optional<double> line = {};  // a dashed vertical line across its row
};

// Horizontal bars, the first on top.
struct Bars {
  std::string title, x_label;
  std::vector<Bar> bars;
  bool logarithmic = false;  // values differ by orders of magnitude: the axis begins at a power of ten
};

// gnuplot is not installed.
class NoGnuplot : public Error {
 public:
  using Error::Error;
};

// The picture's bytes. Texts may be any bytes; long ones are shortened, and the picture grows with the number
// of labels and their length. Throws NoGnuplot, and wedge::Error when gnuplot refuses or the disk for temporary
// files is full.
std::string draw(const Curves& curves, ImageFormat format);
std::string draw(const Bars& bars, ImageFormat format);

}  // namespace wedge::app

// One self-contained page: text, tables and drawings, nothing that is fetched.
#pragma once

#include <string>

#include "apps/gnuplot.h"
#include "apps/table.h"

namespace wedge::app {

// `text` with the characters that mean something to HTML spelled out.
std::string html_escape(const std::string& text);

class HtmlPage {
 public:
  explicit HtmlPage(const std::string& title);

  void heading(const std::string& text);
  void paragraph(const std::string& text);
  // The first row is the head; numbers from column `text_columns` on stand to the right.
  void table(const Table& table);
  // Drawn as SVG into the page. Throws wedge::Error as draw does.
  void picture(const Curves& curves);
  void picture(const Bars& bars);
  // Text as it stands, behind a line that opens it.
  void fold(const std::string& summary, const std::string& text);

  std::string finish() const;

 private:
  void svg(const std::string& svg);

  std::string body_;
  std::string title_;
  int pictures_ = 0;
};

}  // namespace wedge::app

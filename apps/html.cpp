#include "apps/html.h"

#include <fmt/format.h>

#include <algorithm>

#include "apps/display_text.h"

namespace wedge::app {

namespace {

const char* const kStyle =
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.2rem}"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
    "th,td{padding:.25rem .8rem;border-bottom:1px solid #ddd;text-align:left}"
    "th{border-bottom:2px solid #888}.n{text-align:right}"
    "svg{max-width:100%;height:auto}.wide{overflow-x:auto}"
    "pre{background:#f6f6f6;padding:1rem;overflow-x:auto}";

void insert_after_each(std::string& text, const std::string& before, const std::string& inserted) {
  for (std::size_t at = text.find(before); at != std::string::npos;
       at = text.find(before, at + before.size() + inserted.size()))
    text.insert(at + before.size(), inserted);
}

}  // namespace

std::string html_escape(const std::string& text) {
  std::string safe;
  for (const char c : text) {
    if (c == '&')
      safe += "&amp;";
    else if (c == '<')
      safe += "&lt;";
    else if (c == '>')
      safe += "&gt;";
    else if (c == '"')
      safe += "&quot;";
    else
      safe += c;
  }
  return safe;
}

HtmlPage::HtmlPage(const std::string& title) : title_(title) {
  body_ = fmt::format("<h1>{}</h1>\n", html_escape(title));
}

void HtmlPage::heading(const std::string& text) {
  body_ += fmt::format("<h2>{}</h2>\n", html_escape(text));
}

void HtmlPage::paragraph(const std::string& text) {
  body_ += fmt::format("<p>{}</p>\n", html_escape(text));
}

void HtmlPage::table(const Table& table) {
  body_ += "<div class=\"wide\"><table>\n";
  for (std::size_t r = 0; r < table.rows.size(); ++r) {
    body_ += "<tr>";
    for (std::size_t i = 0; i < table.rows[r].size(); ++i)
      body_ += fmt::format("<{0}{1}>{2}</{0}>", r == 0 ? "th" : "td",
                           i >= table.text_columns ? " class=\"n\"" : "", html_escape(table.rows[r][i]));
    body_ += "</tr>\n";
  }
  body_ += "</table></div>\n";
}

void HtmlPage::picture(const Curves& curves) {
  svg(draw(curves, ImageFormat::svg));
}

void HtmlPage::picture(const Bars& bars) {
  svg(draw(bars, ImageFormat::svg));
}

// Without the XML head, and with names of its own: gnuplot gives the same ones in every picture.
void HtmlPage::svg(const std::string& svg) {
  const std::size_t begin = svg.find("<svg");
  std::string inner = begin == std::string::npos ? svg : svg.substr(begin);
  const std::string prefix = fmt::format("p{}_", ++pictures_);
  body_ += "<figure>";
  for (std::size_t at = 0; at < inner.size();) {
    const std::size_t end = std::min(inner.find(inner[at] == '<' ? '>' : '<', at), inner.size());
    std::string part = inner.substr(at, end - at);
    if (inner[at] == '<')  // a tag: between them are texts, which may look like one
      for (const char* before : {"id=\"", "id='", "xlink:href=\"#", "xlink:href='#", "url(#"})
        insert_after_each(part, before, prefix);
    body_ += part;
    at = end;
  }
  body_ += "</figure>\n";
}

void HtmlPage::fold(const std::string& summary, const std::string& text) {
  body_ += fmt::format("<details><summary>{}</summary><pre>{}</pre></details>\n", html_escape(summary),
                       html_escape(text));
}

std::string HtmlPage::finish() const {
  // Names of files are any bytes; a page is UTF-8.
  return valid_utf8(
      fmt::format("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
                  "<meta name=\"viewport\" content=\"width=device-width\"><title>{}</title>"
                  "<style>{}</style></head><body>\n{}</body></html>\n",
                  html_escape(title_), kStyle, body_));
}

}  // namespace wedge::app

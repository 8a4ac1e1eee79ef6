#include "data/builtin_corpus.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "data/blocks.h"
#include "data/builtin_words.h"
#include "tensor/check.h"
#include "tests/support/catch.h"

using namespace wedge;
using namespace wedge::data;
using Catch::Matchers::ContainsSubstring;

namespace {

const BuiltinWords& w = builtin_words();

double sum_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum;
}

double mean_of(const std::vector<double>& values) {
  return sum_of(values) / static_cast<double>(values.size());
}

// FNV-1a over the ids.
std::uint64_t hash_of(const std::vector<std::int32_t>& tokens) {
  std::uint64_t hash = 14695981039346656037u;
  for (const std::int32_t token : tokens) hash = (hash ^ static_cast<std::uint32_t>(token)) * 1099511628211u;
  return hash;
}

// Nats a token of the best model of the last n - 1 tokens, fitted to the stream itself.
double ngram_entropy(const std::vector<std::int32_t>& tokens, std::size_t n) {
  std::map<std::vector<std::int32_t>, std::map<std::int32_t, double>> counts;
  for (std::size_t i = n - 1; i < tokens.size(); ++i) {
    const auto at = tokens.begin() + static_cast<std::ptrdiff_t>(i);
    ++counts[{at - static_cast<std::ptrdiff_t>(n - 1), at}][*at];
  }
  double nats = 0, total = 0;
  for (const auto& [context, next] : counts) {
    double all = 0;
    for (const auto& [token, count] : next) all += count;
    for (const auto& [token, count] : next) nats -= count * std::log(count / all);
    total += all;
  }
  return nats / total;
}

std::vector<std::vector<std::int32_t>> paragraphs_of(const BuiltinText& text) {
  std::vector<std::vector<std::int32_t>> paragraphs;
  std::int64_t begin = 0;
  for (const std::int64_t end : text.ends) {
    paragraphs.emplace_back(text.tokens.begin() + begin, text.tokens.begin() + end);
    begin = end;
  }
  return paragraphs;
}

}  // namespace

TEST_CASE("builtin: the words are distinct and a few hundred", "[builtin]") {
  const auto& vocabulary = builtin_vocabulary();
  CHECK(std::set<std::string>(vocabulary.begin(), vocabulary.end()).size() == vocabulary.size());
  CHECK(vocabulary.size() == w.weights.size());
  CHECK(vocabulary.size() == 188);
  for (const std::string& word : vocabulary)
    CHECK_THAT(word, !ContainsSubstring("\n") && !ContainsSubstring(" "));
}

TEST_CASE("builtin: the same stream always and everywhere", "[builtin]") {
  // Every run that was ever reported on this corpus rests on these.
  struct Case {
    Split split;
    std::size_t tokens, paragraphs;
    std::uint64_t hash;
  };
  for (const auto& [split, tokens, paragraphs, hash] :
       {Case{Split::train, 120'008, 1'657, 0xfe2801d905743588},
        Case{Split::validation, 12'032, 165, 0x534cb8c8f0cf5431},
        Case{Split::test, 12'070, 166, 0x2a636162a0088a99}}) {
    INFO(name_of(split));
    const BuiltinText text = builtin_corpus(split);
    CHECK(text.tokens.size() == tokens);
    CHECK(text.ends.size() == paragraphs);
    CHECK(text.ends.back() == static_cast<std::int64_t>(tokens));
    CHECK(text.surprisal.size() == tokens);
    CHECK(hash_of(text.tokens) == hash);
    CHECK(builtin_corpus(split).tokens == text.tokens);
  }
  CHECK(builtin_text(builtin_corpus(Split::train, 1).tokens) ==
        "Clara kept a violin in the kitchen. David kept a coin in the harbor. Clara likes the doctors. Clara "
        "reads and "
        "works. She reads. David follows the doors. David writes. David went back to the harbor. David "
        "laughs. Clara still "
        "had the violin. Clara went back to the kitchen. Clara laughs and works. Some wolves behind the "
        "rivers sleep and "
        "hide. Clara works and writes. Clara reads. These wild cats see the bears.\n\n");
}

TEST_CASE("builtin: fewer paragraphs are the first ones", "[builtin]") {
  const BuiltinText all = builtin_corpus(Split::validation), some = builtin_corpus(Split::validation, 7);
  REQUIRE(some.ends.size() == 7);
  CHECK(std::equal(some.tokens.begin(), some.tokens.end(), all.tokens.begin()));
  CHECK(some.ends.back() == all.ends[6]);
  CHECK(builtin_corpus(Split::validation, 1'000'000).tokens == all.tokens);
  CHECK(builtin_corpus(Split::validation, 0).tokens.empty());
}

TEST_CASE("builtin: the tokens alone give every probability, and these sum to one", "[builtin]") {
  const BuiltinText text = builtin_corpus(Split::validation);
  std::size_t visited = 0;
  double worst = 0;
  const auto scored =
      builtin_surprisal(text.tokens, [&](std::size_t position, std::span<const NextWord> words) {
        CHECK(position == visited++);
        std::set<std::int32_t> distinct;
        double sum = 0, taken = 0;
        for (const NextWord& word : words) {
          distinct.insert(word.token);
          sum += word.probability;
          if (word.token == text.tokens[position]) taken = word.probability;
        }
        worst = std::max({worst, std::abs(sum - 1), std::abs(-std::log(taken) - text.surprisal[position])});
        if (distinct.size() != words.size()) FAIL("a word is listed twice at position " << position);
      });
  CHECK(visited == text.tokens.size());
  CHECK(worst < 1e-12);
  CHECK(scored == text.surprisal);

  std::vector<std::int32_t> wrong(text.tokens.begin(), text.tokens.begin() + 3);
  CHECK(builtin_surprisal(wrong).size() == 3);
  wrong.push_back(w.stop.first);
  CHECK_THROWS_WITH(builtin_surprisal(wrong), ContainsSubstring("position 3"));
  CHECK_THROWS_AS(builtin_surprisal(std::vector<std::int32_t>{-1}), Error);
}

TEST_CASE("builtin: words come as often as their probabilities say", "[builtin]") {
  // For each word: the sum of its probabilities over the stream against its count. The differences are
  // martingales, with the sum of p (1 - p) as variance.
  const BuiltinText text = builtin_corpus(Split::train);
  std::vector<double> expected(builtin_vocabulary().size()), variance(expected.size()),
      count(expected.size());
  builtin_surprisal(text.tokens, [&](std::size_t, std::span<const NextWord> words) {
    for (const auto& [token, p] : words) {
      expected[static_cast<std::size_t>(token)] += p;
      variance[static_cast<std::size_t>(token)] += p * (1 - p);
    }
  });
  for (const std::int32_t token : text.tokens) ++count[static_cast<std::size_t>(token)];
  double chi_squared = 0, free = 0;
  for (std::size_t token = 0; token < expected.size(); ++token) {
    INFO(builtin_vocabulary()[token] << ": " << count[token] << " times, expected " << expected[token]);
    CHECK(std::abs(count[token] - expected[token]) <= 4 * std::sqrt(variance[token]) + 1e-6);
    if (variance[token] < 1) continue;
    chi_squared += std::pow(count[token] - expected[token], 2) / variance[token];
    ++free;
  }
  CHECK(chi_squared / free == Approx(1).margin(0.4));
}

TEST_CASE("builtin: surprisal is on average what the probabilities promise", "[builtin]") {
  const BuiltinText text = builtin_corpus(Split::train);
  std::vector<double> entropy;
  double variance = 0;
  builtin_surprisal(text.tokens, [&](std::size_t, std::span<const NextWord> words) {
    double h = 0, square = 0;
    for (const auto& [token, p] : words) {
      h -= p * std::log(p);
      square += p * std::log(p) * std::log(p);
    }
    entropy.push_back(h);
    variance += square - h * h;
  });
  CHECK(std::abs(sum_of(entropy) - sum_of(text.surprisal)) < 3 * std::sqrt(variance));
  CHECK(mean_of(builtin_corpus(Split::validation).surprisal) == Approx(mean_of(text.surprisal)).margin(0.06));
}

TEST_CASE("builtin: the floor lies below what counting short contexts can reach", "[builtin]") {
  const BuiltinText text = builtin_corpus(Split::train);
  const double floor = mean_over_targets(text.surprisal, 64);
  CHECK(floor == Approx(mean_of(text.surprisal)).margin(0.01));
  CHECK(ngram_entropy(text.tokens, 1) > floor + 2);
  CHECK(ngram_entropy(text.tokens, 2) > floor + 0.4);
  CHECK(ngram_entropy(text.tokens, 3) > floor + 0.1);  // though this one has seen its own test
}

TEST_CASE("builtin: subject and verb agree", "[builtin]") {
  // Between a noun phrase and its verb stand at most a preposition, "the" and scenery of either number.
  const auto noun_number = [](std::int32_t token) -> int {
    for (int kind = 0; kind < kKinds; ++kind) {
      for (const int number : {kSingular, kPlural}) {
        if (w.nouns[kind][static_cast<std::size_t>(number)].contains(token)) return number;
        if (w.pronouns[kind][number].contains(token)) return number;
      }
    }
    return w.names.contains(token) ? static_cast<int>(kSingular) : -1;
  };
  const auto verb_number = [](std::int32_t token) -> int {
    for (const int number : {kSingular, kPlural}) {
      if (w.transitive[number].contains(token)) return number;
      for (int kind = 0; kind < kKinds; ++kind) {
        if (w.verbs[kind][static_cast<std::size_t>(number)].contains(token)) return number;
      }
    }
    return -1;
  };
  std::size_t verbs = 0, across_the_other_number = 0;
  for (const Split split : {Split::train, Split::validation, Split::test}) {
    int subject = -1;
    bool attracted = false;
    for (const std::int32_t token : builtin_corpus(split).tokens) {
      if (w.stop.contains(token)) subject = -1, attracted = false;
      if (subject < 0) subject = noun_number(token);
      if (subject >= 0 && w.scenery[1 - subject].contains(token)) attracted = true;
      if (const int number = verb_number(token); number >= 0) {
        ++verbs;
        across_the_other_number += attracted;
        if (number != subject)
          FAIL("a verb disagrees: " << builtin_vocabulary()[static_cast<std::size_t>(token)]);
      }
    }
  }
  CHECK(verbs > 10'000);
  CHECK(across_the_other_number > 500);
}

TEST_CASE("builtin: what a paragraph comes back to was said at its beginning", "[builtin]") {
  std::map<std::size_t, std::size_t> distances;
  std::size_t recalls = 0;
  for (const auto& paragraph : paragraphs_of(builtin_corpus(Split::train))) {
    std::map<std::int32_t, std::size_t> first_at;
    std::int32_t hero = -1;
    std::map<std::int32_t, std::pair<std::int32_t, std::int32_t>> facts;  // hero: object, place
    for (std::size_t i = 0; i < paragraph.size(); ++i) {
      const std::int32_t token = paragraph[i];
      const bool again = first_at.contains(token);
      first_at.emplace(token, i);
      if (w.names.contains(token)) hero = token;
      if (w.objects.contains(token) || w.places.contains(token)) {
        auto& [object, place] = facts.try_emplace(hero, -1, -1).first->second;
        auto& fact = w.objects.contains(token) ? object : place;
        if (!again) {
          REQUIRE(fact == -1);
          fact = token;
        } else {
          REQUIRE(fact == token);
          ++distances[i - first_at[token]];
          ++recalls;
        }
      }
    }
    CHECK(facts.size() == 2);
    CHECK(paragraph.size() <= 110);
    CHECK(w.end.contains(paragraph.back()));
  }
  CHECK(recalls > 3000);
  REQUIRE_FALSE(distances.empty());
  // At the least two sentences of three words lie between the second place, word 14, and "went back to the":
  // word 27.
  CHECK(distances.begin()->first == 13);
  CHECK(distances.rbegin()->first <= 100);
  std::size_t far = 0;
  for (const auto& [distance, n] : distances) far += distance >= 30 ? n : 0;
  CHECK(far > recalls / 3);
}

TEST_CASE("builtin: readable text", "[builtin]") {
  const std::vector<std::int32_t> tokens = {w.openers.first, w.comma.first, w.the.first,  w.stop.first,
                                            w.end.first,     w.names.first, w.stop.first, w.a.first};
  CHECK(builtin_text(tokens) == "Today, the.\n\nAnna. A");
  CHECK(builtin_text({}).empty());
  CHECK_THROWS_AS(builtin_text(std::vector<std::int32_t>{99999}), Error);
}

#include "data/builtin_words.h"

#include <sstream>
#include <utility>

namespace wedge::data {
namespace {

enum class Frequency { flat, falling, steep };  // like 1, 1 / (rank + 3), 1 / (rank + 1)

class Builder {
 public:
  // `text`: the class's words, separated by spaces.
  WordClass add(const std::string& text, Frequency frequency = Frequency::falling) {
    WordClass result{static_cast<std::int32_t>(words_.vocabulary.size()), 0};
    std::istringstream in(text);
    for (std::string word; in >> word; ++result.count) {
      words_.vocabulary.push_back(word);
      const auto rank = static_cast<std::uint32_t>(result.count);
      words_.weights.push_back(
          frequency == Frequency::flat ? 1 : 10000 / (rank + (frequency == Frequency::steep ? 1 : 3)));
    }
    return result;
  }

  BuiltinWords build() {
    BuiltinWords& w = words_;
    w.end = add("<p>");
    w.stop = add(".");
    w.comma = add(",");
    w.the = add("the");
    w.a = add("a");
    w.determiners[kSingular] = {w.a.first, 1 + add("every this").count};
    w.determiners[kPlural] = add("some many these");
    w.kept = add("kept");
    w.in = add("in");
    w.still = add("still");
    w.had = add("had");
    w.went = add("went");
    w.back = add("back");
    w.to = add("to");
    w.conjunction = add("and");
    w.pronouns[kPerson][kSingular] = add("she");
    w.pronouns[kAnimal][kSingular] = w.pronouns[kThing][kSingular] = add("it");
    w.pronouns[kPerson][kPlural] = w.pronouns[kAnimal][kPlural] = w.pronouns[kThing][kPlural] = add("they");

    w.names = add("Anna Boris Clara David Elena Felix Greta Henry", Frequency::flat);
    // No word that may follow "a" begins with a vowel.
    w.objects = add("lamp drum map ring book key knife coin mirror violin basket hat", Frequency::steep);
    w.places = add("cellar barn attic kitchen garden library stable chapel workshop harbor mill cave",
                   Frequency::steep);

    w.adjectives[kPerson] = add("young tired clever brave");
    w.adjectives[kAnimal] = add("brown hungry wild small");
    w.adjectives[kThing] = add("heavy rusty broken wooden");
    w.nouns[kPerson] = {add("doctor farmer sailor baker teacher painter soldier king"),
                        add("doctors farmers sailors bakers teachers painters soldiers kings")};
    w.nouns[kAnimal] = {add("dog cat horse rabbit bear wolf goat duck"),
                        add("dogs cats horses rabbits bears wolves goats ducks")};
    w.nouns[kThing] = {add("bell clock door wheel stone boat candle flag"),
                       add("bells clocks doors wheels stones boats candles flags")};
    w.prepositions = add("near behind under beside above");
    w.scenery[kSingular] = add("river bridge hill wall road tree");
    w.scenery[kPlural] = add("rivers bridges hills walls roads trees");

    w.verbs[kPerson] = {add("sings waits works laughs reads writes", Frequency::steep),
                        add("sing wait work laugh read write", Frequency::steep)};
    w.verbs[kAnimal] = {add("sleeps runs drinks hides jumps listens", Frequency::steep),
                        add("sleep run drink hide jump listen", Frequency::steep)};
    w.verbs[kThing] = {add("falls shines moves breaks creaks turns", Frequency::steep),
                       add("fall shine move break creak turn", Frequency::steep)};
    w.transitive[kSingular] = add("sees follows finds likes hears fears", Frequency::steep);
    w.transitive[kPlural] = add("see follow find like hear fear", Frequency::steep);
    w.adverbs = add("slowly quietly again often outside alone");
    w.openers = add("today later sometimes tonight");
    return std::move(words_);
  }

 private:
  BuiltinWords words_;
};

}  // namespace

const BuiltinWords& builtin_words() {
  static const BuiltinWords words = Builder().build();
  return words;
}

}  // namespace wedge::data

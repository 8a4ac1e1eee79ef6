"""Make tokenizer.json: awkward Unicode texts and the ids that Hugging Face `tokenizers` gives them.

The vocabulary is a small made-up one, stored in the file, so that most outcomes are told apart: letters after
folding, pieces, a few words, punctuation, and letters that are missing on purpose. README.md says more.
"""

import argparse
import json
import pathlib
import random
import sys
import unicodedata

import tokenizers

import unicode8

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "bench" / "peers"))
from bert_tokenizer import make_tokenizer  # noqa: E402

SPACES = "\t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u1680\u180e" + "".join(map(chr, range(0x2000, 0x2010))) \
    + "\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"


def span(first, last):
    return [chr(c) for c in range(first, last + 1)]


def make_vocabulary():
    """A few hundred entries. No `##q`, no `z`: words that begin well and cannot be finished, and the reverse."""
    words = ("the and of cat cats un una ab aba hello world ing straße strasse café cafe fi ffi istanbul "
             "ολος οδοσ мир mask unk cls 100 2015 1st don it ca 中国").split()
    pieces = "able ing s ed ion abc rasse ab 00 15 st lo ο σ ир".split()
    letters = span(ord("a"), ord("z")) + span(ord("0"), ord("9")) + list("ßıæœøłđðþŋəſﬁﬂﬃ") + span(0x3B1, 0x3C9) \
        + span(0x430, 0x44F) + list("אבגשת") + span(0x621, 0x63A) + span(0x641, 0x64A) + list("कखतमराि") + list("กขาำ") \
        + span(0x1100, 0x1112) + span(0x1161, 0x1175) + span(0x11A8, 0x11C2) + list("かきはアカハー") \
        + list("ａｂｃ１２") + list("ꭰꭱⅰⅱⓐⓑაბ𐐨𐐩") + list("😀👩🏽❤♂")
    singles = [chr(c) for c in range(33, 127) if not chr(c).isalnum()] + list("“”‘’—–…«»¿¡·‽؟،、。「」！？€£©™°§¶†‡‰᙭") \
        + list("中国人大小一二三丁龥㐀䶵𠀀𪜀豈更車") + ["\u0301", "\u0903", "\u200d", "\U0001d165", "\U0001d16d"]
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + words + letters + singles
    entries += ["##" + piece for piece in pieces + letters]
    return [e for e in dict.fromkeys(entries) if e not in ("##q", "z")]


def written_cases():
    """Texts each made for one reason."""
    yield from ["", " ", "\n", "\u0301", "hello world", "Hello, WORLD!", "the cats'", "don't it's ca n't", "un unable UNABLE"]
    yield from ["abab ababc abcab", "qab aq q qq", "z za az zz a z", "unz zun", "hello##ing ##ing # #", "##", "2015 1ST 10015"]
    # literal special tokens are text
    yield from ["[MASK]", "[UNK] [CLS][SEP]", "a[MASK]b", "[mask]", "[PAD", "[ MASK ]"]
    # accents: composed, decomposed, several, out of canonical order, alone, between words
    yield from ["café CAFÉ cafe\u0301 cafe\u0301\u0323 cafe\u0323\u0301", "\u0301a a\u0301 a \u0301 b", "ắ Ǖ ḝ ợ ḹ", "Å Å A\u030a"]
    yield from ["a\u20ddb a\u0489b a\u093eb a\u0903b \u0903", "\U0001d15f \U0001d160", "a\U0001d16d\U0001d165b", "a\u302e\u302fb", "क़ क\u093c कि"]
    # casing goes code point by code point; Turkish, German, Greek, titlecase digraphs, Cherokee, Deseret, circled
    yield from ["İstanbul ISTANBUL ıI i\u0307", "Straße STRASSE ẞ", "ΟΔΟΣ ΟΛΟΣ Σ ΣΑΣ οδος ὈΔΥΣΣΕΎΣ ΐ ᾳ ᾼ", "ǅ ǈ ǋ Ǳ Ǆ"]
    yield from ["МИР Мир Ё Й й", "ꭰ Ꭰ ᏸ Ᏸ", "𐐀𐐁 𐐨𐐩", "Ⅰ Ⅱ Ⓐ Ⓑ", "Ⴀ ა ⴀ", "K Å Ω ϴ ſ"]
    # scripts: Hangul falls into jamo, ideographs stand alone, kana lose their marks, Arabic and Hebrew their points
    yield from ["한국어 가각힣 ㄱ ᄀ\u1161\u11a8", "中国人 a中b中国 大小。", "㐀䶵䶶 一龥鿕 豈更車 並 𠀀𪛖 𪜀𫜴 𫝀𫠝 𫠠𬺡", "〇々〆 ⺀ ⼀"]
    yield from ["がぎは\u3099ぱ ガカ\u3099ー ｶﾞ", "مَرْحَبًا أإآؤئ لا ﷺ ﻻ", "שָׁלוֹם שׁ", "กำ ขา", "ﬁ ﬂ ﬃ ﬁn", "ａｂｃ ＡＢＣ １２ ！？"]
    # emoji: joiners and variation selectors go, the rest is one word
    yield from ["😀 👩‍❤️‍👩 👩🏽 ❤️ ♂️", "a😀b", "🇩🇪", "1️⃣"]
    # dropped: NUL, controls, formats, U+FFFD, byte order mark, private use; kept: its neighbours
    yield from ["a\0b", "\0", "a\x01\x7f\x9fb", "\ufeffab", "a\ufffdb \ufffd", "a\u200b\u200c\u200d\u2060b", "a\xadb", "a\u202eb\u2066"]
    yield from ["a\ue000b a\uf8ffb a\uf900b \ud7fb", "a\U000f0000b a\U000ffffdb a\U00100000b a\U0010fffdb", "a\ufff9b a\U000e0001b a\U000e0041b"]
    yield from [f"a{c}b {c} a{c}{c}b" for c in SPACES]
    yield from ["a\tb\rc\r\nd", "\r\ta\t\r", "  a  b  ", "a\u00a0b\u3000c"]
    # punctuation: every ASCII one, some others, symbols that are none
    yield from ["".join(chr(c) for c in range(33, 127)), " ".join(f"a{chr(c)}b" for c in range(33, 127) if not chr(c).isalnum())]
    yield from ["“ab” ‘ab’ a—b a–b a…b «ab» ¿ab? ¡ab! a·b a‽b", "ab؟ ab، 「ab」 a、b。", "€5 £1 ©ab a™b 1° §1 a¶b † ‡ ‰ a᙭b", "a^b`c~d|e<f>g=h+i$"]
    # categories that later versions of Unicode changed
    yield from [f"a{c}b" for c in "\u166d\u1734\u1885\u1886\ua9bd\U000111c9\U0001171e\u180e\u30fb\uff65\u00b6\u00a7"]
    # length: at most 100 code points after folding
    yield from ["a" * 100, "a" * 101, "é" * 100, "é" * 101, "e\u0301" * 100, "a\u0301" + "a" * 100, "가" * 50, "가" * 50 + "ᄀ"]
    yield from ["a" * 100 + "." + "b" * 101, "中" * 120, "😀" * 100, "😀" * 101, "a\u200b" * 100, "ab" * 50 + "\u200bz", "q" + "a" * 200]
    yield "The cats of İstanbul, " * 200


def swept_cases(points):
    """Every Unicode 8 code point whose category matters, between two letters: gone, a gap, a word, or letters."""
    kinds = {"Mn", "Mc", "Me", "Zs", "Zl", "Zp", "Cc", "Cf", "Lt"}
    chosen = [c for c in points if unicodedata.category(chr(c)) in kinds or unicodedata.category(chr(c))[0] == "P"]
    for start in range(0, len(chosen), 64):
        yield " ".join(f"a{chr(c)}b" for c in chosen[start:start + 64])


def random_cases(points, entries, rng):
    """Random texts: any code points; those that fold; pieces of the vocabulary among marks and gaps."""
    folding = [c for c in points if chr(c).lower() != chr(c)
               or (unicodedata.decomposition(chr(c)) and not unicodedata.decomposition(chr(c)).startswith("<"))]
    low = [c for c in points if c < 0x3000]
    letters = [e for e in entries[5:] if not e.startswith("##")]
    marks = ["\u0301", "\u0323", "\u00a0", "\u200d", "\t", "-", "’", ""]
    for _ in range(80):
        yield "".join(chr(c) for c in rng.choices(points, k=24))
        yield "".join(chr(c) + " " * rng.randrange(2) for c in rng.choices(low, k=32))
        yield " ".join(chr(c) for c in rng.choices(folding, k=24))
    for _ in range(200):
        yield "".join(rng.choice([str, str.upper, str.title])(rng.choice(letters)) + rng.choice(marks + [" "] * 6)
                      for _ in range(20))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "tokenizer.json", help="the file to write")
    args = parser.parse_args()
    entries = make_vocabulary()
    tokenizer = make_tokenizer(entries)
    points = unicode8.assigned()
    texts = [*written_cases(), *swept_cases(points), *random_cases(points, entries, random.Random(8))]
    cases = [{"text": t, "ids": tokenizer.encode(t, add_special_tokens=False).ids} for t in texts]
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    args.out.write_text(f'{{"tokenizers_version":"{tokenizers.__version__}",\n"vocab":{json.dumps(entries)},\n'
                        f'"cases":[\n{lines}\n]}}\n', encoding="ascii")
    ids = [i for case in cases for i in case["ids"]]
    print(f"{args.out.name}: {args.out.stat().st_size} bytes, {len(entries)} entries of which {len(set(ids))} occur, "
          f"{len(cases)} cases, {len(ids)} ids, {ids.count(1)} of them [UNK]")


if __name__ == "__main__":
    main()

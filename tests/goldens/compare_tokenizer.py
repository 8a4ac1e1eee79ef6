"""Compare `wedge tokenize` with Hugging Face `tokenizers`, id for id.

Every code point but surrogates and "\\n" is tried in "a<cp>b" and " <cp> ", then the rows of the given texts, each as a
line. Code points beyond Unicode 8 (and private use) that differ are listed and allowed; any other difference is
printed and makes the exit status 1.

With a vocabulary like BERT's most rare characters end as [UNK] on both sides. --every-code-point first writes to
VOCAB one that holds every code point as a word and as a `##` piece, so that no difference can hide there.
"""

import argparse
import pathlib
import subprocess
import sys
import unicodedata

import unicode8

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "bench" / "peers"))
from bert_tokenizer import make_tokenizer, read_vocab  # noqa: E402

CHUNK = 20000


def write_full_vocabulary(path):
    """[UNK], "ab", and every code point that is neither a surrogate nor a control character, twice."""
    points = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cs", "Cc")]
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(entry + "\n" for entry in ["[UNK]", "ab"] + points + ["##" + p for p in points])


def wedge_ids(binary, vocab, lines):
    """Ids of each line by the command."""
    run = subprocess.run([binary, "tokenize", f"vocab={vocab}"], input="".join(line + "\n" for line in lines).encode(),
                         stdout=subprocess.PIPE, check=True)
    rows = run.stdout.decode("ascii").removesuffix("\n").split("\n")
    if len(rows) != len(lines):
        sys.exit(f"compare_tokenizer: {len(lines)} lines in, {len(rows)} lines out")
    return [[int(i) for i in row.split()] for row in rows]


def differing(args, tokenizer, lines):
    """Indices of the lines whose ids differ, with what each side gives."""
    ours = wedge_ids(args.wedge, args.vocab, lines)
    for start in range(0, len(lines), CHUNK):
        theirs = tokenizer.encode_batch(lines[start:start + CHUNK], add_special_tokens=False)
        for index, encoding in enumerate(theirs, start):
            if encoding.ids != ours[index]:
                yield index, ours[index], encoding.ids


def ranges(points):
    """Consecutive code points as one item, such as 1F900-1F90B."""
    items = []
    for c in points:
        if items and items[-1][1] == c - 1:
            items[-1][1] = c
        else:
            items.append([c, c])
    return [f"{a:04X}" if a == b else f"{a:04X}-{b:04X}" for a, b in items]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vocab", metavar="VOCAB", help="vocabulary, one entry a line")
    parser.add_argument("wedge", metavar="WEDGE", help="the wedge command")
    parser.add_argument("texts", metavar="TEXT", nargs="*", help="texts to compare too, one row a line")
    parser.add_argument("--every-code-point", action="store_true", help="write VOCAB with every code point in it")
    args = parser.parse_args()
    if args.every_code_point:
        write_full_vocabulary(args.vocab)
    tokenizer = make_tokenizer(read_vocab(args.vocab))
    within = set(unicode8.assigned())

    points = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000 and c != 0x0A]
    lines = [line for c in points for line in (f"a{chr(c)}b", f" {chr(c)} ")]
    bad, beyond = 0, set()
    for index, ours, theirs in differing(args, tokenizer, lines):
        c = points[index // 2]
        if c not in within:
            beyond.add(c)
            continue
        bad += 1
        print(f"U+{c:04X} {unicodedata.name(chr(c), '')} in {lines[index]!r}: wedge {ours}, expected {theirs}")
    print(f"{len(points)} code points, {len(beyond)} beyond Unicode 8 differ, {bad} lines within differ")
    if beyond:
        print("beyond Unicode 8:", " ".join(ranges(sorted(beyond))))

    for path in args.texts:
        with open(path, encoding="utf-8", newline="\n") as file:
            rows = file.read().removesuffix("\n").split("\n")
        count = 0
        for index, ours, theirs in differing(args, tokenizer, rows):
            count += 1
            print(f"{path}:{index + 1}: wedge {ours}, expected {theirs}")
        print(f"{path}: {len(rows)} rows, {count} differ")
        bad += count
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()

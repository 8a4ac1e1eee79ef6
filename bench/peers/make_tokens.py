"""Tokenise WikiText-2 rows by Hugging Face `tokenizers` into a file for wedge's `data=tokens`.

The first rows of the two texts (one row a line) are joined with an empty line between them and encoded.
The output holds int32 vectors `train` and `validation` and the metadata `vocab_size`.
"""

import argparse
import itertools

import numpy
from safetensors.numpy import save_file

from bert_tokenizer import make_tokenizer, read_vocab


def encode_rows(tokenizer, path, max_rows):
    """Token ids of the first max_rows rows (all of them if None), as int32."""
    with open(path, encoding="utf-8", newline="\n") as file:
        text = "\n\n".join(itertools.islice(file, max_rows))
    return numpy.array(tokenizer.encode(text, add_special_tokens=False).ids, dtype=numpy.int32)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", help="text of the training rows, such as wiki.train.raw")
    parser.add_argument("validation", help="text of the validation rows, such as wiki.valid.raw")
    parser.add_argument("vocab", help="vocab.txt of bert-base-uncased")
    parser.add_argument("out", help="the .safetensors file to write")
    parser.add_argument("--max-train", type=int, default=800, help="rows of train, 0 for all (default 800)")
    parser.add_argument("--max-validation", type=int, default=200, help="rows of validation, 0 for all (default 200)")
    parser.add_argument("--expect", type=int, nargs=2, metavar=("TRAIN", "VALIDATION"),
                        help="fail unless these are the token counts (founding experiment: 45854 12884)")
    args = parser.parse_args()
    entries = read_vocab(args.vocab)
    tokenizer = make_tokenizer(entries)
    tensors = {"train": encode_rows(tokenizer, args.train, args.max_train or None),
               "validation": encode_rows(tokenizer, args.validation, args.max_validation or None)}
    counts = [tensor.size for tensor in tensors.values()]
    if args.expect and counts != args.expect:
        parser.exit(1, f"make_tokens: expected {args.expect} tokens, got {counts}\n")
    save_file(tensors, args.out, {"vocab_size": str(len(entries))})
    print(f"{args.out}: {counts[0]} train tokens, {counts[1]} validation tokens, vocabulary {len(entries)}")


if __name__ == "__main__":
    main()

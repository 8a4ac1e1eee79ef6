"""Writes the small Parquet files that tests/data/parquet_source_test.cpp reads.

    pip install pyarrow
    python make_parquet_golden.py

parquet_rows.raw holds the rows as a text file, one a line; parquet_layout.parquet holds the same rows as the published
WikiText-2 files do: one string column `text`, a trailing newline in each row that is not blank, "" for a blank one,
Snappy pages. The other files each break or bend that layout in one way.
"""

import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

HERE = pathlib.Path(__file__).parent

BODY = [
    "The harbour at Lindøya was built in 1887 , and rebuilt twice after the storms of 1904 and 1931 .",
    "Its breakwater is 240 metres ( 790 ft ) long ; the older half is granite , the newer concrete .",
    'A visitor wrote that it looked " less like a wall than like a very patient animal " .',
    "About 1 @,@ 200 people live there all year – most of them fish , mend nets or teach .",
    "The café beside the lighthouse sells smørrebrød , naïve paintings and a map in 日本語 .",
]


def text_rows():
    """The rows as text: headings, paragraphs, and blank rows that hold one space."""
    rows = [" "]
    for chapter in range(6):
        marks = " = " if chapter % 3 == 0 else " = = "
        rows += [f"{marks}Harbour , part {chapter + 1}{marks}", " "]
        rows += [f" {BODY[(chapter + k) % len(BODY)]} " for k in range(2 + chapter % 2)]
        rows += [" "]
    return rows


def write(name, columns, **options):
    options = {"compression": "snappy"} | options
    pq.write_table(pa.table(columns), HERE / f"parquet_{name}.parquet", **options)


def main():
    rows = text_rows()
    (HERE / "parquet_rows.raw").write_text("".join(row + "\n" for row in rows), encoding="utf-8", newline="\n")
    stored = [row + "\n" if row.strip() else "" for row in rows]
    text = pa.array(stored, pa.string())
    write("layout", {"text": text}, row_group_size=10)
    # Not the first column, plain pages instead of a dictionary, no compression.
    write(
        "large_string",
        {"id": pa.array(range(len(rows)), pa.int32()), "text": pa.array(stored, pa.large_string())},
        compression="none",
        use_dictionary=False,
    )
    write("no_rows", {"text": text[:0]})
    write("null_row", {"text": pa.array(["a\n", "", None, "b\n"], pa.string())}, row_group_size=2)
    write("other_column", {"body": text[:3]})
    write("integers", {"text": pa.array([1, 2, 3], pa.int64())})
    write("bytes", {"text": pa.array([b"a", b"\xff"], pa.binary())})
    write("lists", {"text": pa.array([["a", "b"], ["c"]], pa.list_(pa.string()))})
    write("nested", {"text": pa.array([{"text": "a"}], pa.struct([("text", pa.string())]))})


if __name__ == "__main__":
    main()

"""Rows of csv files that Python's csv module writes and reads back.

    python dev/golden/csv_rows.py

Reference: csv.reader(strict=True) of the standard library, the dialect of RFC 4180; files in every quoting, line end and ending that csv.writer
makes, with fields of few characters so that quotes, commas and line breaks meet often. A blank line is `[]` for Python; the fixture says `[""]`.
"""
import csv
import io
import json
import random
import sys
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent.parent / "tests" / "fixtures" / "csv_rows.json"

PIECES = ['"', '""', ",", "\n", "\r\n", "\r", " ", "\t", "a", "bag", "é", "猫", "'", ";", "\\", "\u2028"]

BY_HAND = [
    "a",
    "a\n",
    "a\r\n",
    "\n",
    "\n\n",
    "\r\n\r\na\r\n",
    "a,b\n\nc,d",
    ",\n,,",
    ",",
    '""',
    '"",""\n',
    '""""',
    '"""a"""\n"""",""""\n',
    '"a\nb","c\r\nd"\r\n"e\rf",g',
    '"a,b",c\n"d ""e"" f",g\n',
    'a,"b"\r\n"c",d\r\n',
    'a b , c \n',
    '"a"\n"b"\n',
    'é,"ü\nö"\n猫,犬\n',
]


def read(text: str) -> list[list[str]]:
    return [row or [""] for row in csv.reader(io.StringIO(text, newline=""), strict=True)]


def main() -> None:
    random.seed(0)
    texts = list(BY_HAND)
    for case in range(160):
        out = io.StringIO(newline="")
        quoting = random.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
        end = random.choice(["\n", "\r\n"])
        writer = csv.writer(out, quoting=quoting, lineterminator=end)
        # csv.writer leaves a lone CR unquoted that csv.reader then takes for the end of a row.
        pieces = [piece for piece in PIECES if piece != "\r"] if quoting == csv.QUOTE_MINIMAL else PIECES
        for _ in range(random.randint(1, 6)):
            writer.writerow("".join(random.choices(pieces, k=random.randint(0, 4))) for _ in range(random.randint(1, 4)))
        # The last row may end with the file.
        texts.append(out.getvalue().removesuffix(end) if case % 3 == 0 else out.getvalue())
    cases = [{"text": text, "rows": read(text)} for text in texts]
    lines = ",\n".join(json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in cases)
    TARGET.write_text("[\n" + lines + "\n]\n", encoding="utf-8", newline="\n")
    print(f"{TARGET.name}: {len(cases)} files, {sum(len(case['rows']) for case in cases)} rows", file=sys.stderr)


if __name__ == "__main__":
    main()

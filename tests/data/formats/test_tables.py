"""A user's tables: columns by name, what is wrong by file and line."""

import json

import pytest

from contrastive_jax.data import packaged
from contrastive_jax.data.formats import tables

COLUMNS = ("image", "caption")


def write(tmp_path, name, text):
    file = tmp_path / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(file)


WHOLE = {
    "a.csv": 'id,caption,image\n1,"a ""big"" cat,\nasleep",a.png\n\n2,Grüße,b.png\n',
    "a.tsv": 'caption\timage\na "big" cat, asleep\ta.png\nGrüße\tb.png\n',
    "b.tsv": 'a.png\ta "big" cat, asleep\nb.png\tGrüße\n',
    "a.jsonl": '{"image": "a.png", "caption": "a \\"big\\" cat, asleep", "x": [1]}\n\n'
    '{"image": "b.png", "caption": "Grüße"}',
}


@pytest.mark.parametrize("name", WHOLE)
def test_columns_are_found_by_name(tmp_path, name):
    got = tables.read(write(tmp_path, name, "\ufeff" + WHOLE[name]), COLUMNS)
    got = [tuple(" ".join(cell.split()) for cell in row) for row in got]
    assert got == [("a.png", 'a "big" cat, asleep'), ("b.png", "Grüße")]


def test_a_prefix_says_what_a_file_is(tmp_path):
    file = write(tmp_path, "rows.txt", "text,n\none,1\ntwo,2\n")
    assert tables.read(f"csv:{file}", ("n", "text")) == [("1", "one"), ("2", "two")]
    assert tables.read(file, ("text",)) == [("text,n",), ("one,1",), ("two,2",)]


def test_optional_columns(tmp_path):
    file = write(tmp_path, "a.csv", "a,label\nx,\ny,0\n")
    assert tables.read(file, ("a",), ("label",)) == [("x", ""), ("y", "0")]
    file = write(tmp_path, "b.csv", "a\nx\n")
    assert tables.read(file, ("a",), ("label",)) == [("x", "")]
    file = write(tmp_path, "a.jsonl", '{"a": 7, "label": null}')
    assert tables.read(file, ("a",), ("label",)) == [("7", "")]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "image,text\na,b\n", "a.csv:1: expected a column 'caption', got im"),
        ("a.csv", "image,caption\na,b\nc, \n", "a.csv:3: expected a caption, got none"),
        ("a.csv", "image,caption\na,b,c\n", "a.csv:2: expected 2 columns, got 3"),
        ("a.csv", "image,caption\na\n", "a.csv:2: expected 2 columns, got 1"),
        ("a.csv", 'image,caption\na,"b\n', "a.csv:2: malformed"),
        ("a.csv", "", "a.csv: expected a row or more, got none"),
        ("a.csv", "image,caption\n", "a.csv: expected a row or more, got none"),
        ("a.csv", b"image,caption\na,b\nc,\xff\n", "a.csv:3: expected UTF-8"),
        ("a.tsv", "a\tb\nc\n", "a.tsv:2: expected 2 columns, got 1"),
        ("a.tsv", "a\tb\tc\n", "a.tsv:1: expected a column 'image', got a, b, c"),
        ("a.tsv", "image\tb\n", "a.tsv:1: expected a column 'caption', got image, b"),
        ("a.jsonl", '{"image": 1}\n', "a.jsonl:1: expected a column 'caption', got im"),
        ("a.jsonl", '\n{"image": \n', "a.jsonl:2: expected JSON"),
        ("a.jsonl", "[1]\n", "a.jsonl:1: expected a JSON object"),
        ("a.jsonl", "[" * 9999, "a.jsonl:1: expected JSON"),
        (
            "a.jsonl",
            json.dumps(dict(image=["a"], caption="b")),
            r"a.jsonl:1: expected a text as 'image'",
        ),
        (
            "a.txt",
            "a\n",
            "a.txt: expected .csv, .tsv or .jsonl with columns image, cap",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path, name, text, message):
    file = write(tmp_path, name, text)
    with pytest.raises(ValueError, match=message) as error:
        tables.read(file, COLUMNS)
    assert "\n" not in str(error.value)


def test_lines_and_numbers(tmp_path):
    file = write(tmp_path, "a.csv", "a,b\n\n c\td \n")
    assert tables.read_lines(file) == [("a,b",), ("c\td",)]
    assert tables.number("1e3", "here") == 1000
    with pytest.raises(ValueError, match="here: expected a number, got 'x'"):
        tables.number("x", "here")


def test_no_file(tmp_path):
    with pytest.raises(packaged.DataMissing, match=r"a.csv is not there"):
        tables.read(f"csv:{tmp_path}/a.csv", COLUMNS)

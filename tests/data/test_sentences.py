"""Readers of sentence sets, on small files of the same make."""

import json
import struct
import zlib

import numpy as np
import pytest

from contrastive_jax.data import packaged, sentences


@pytest.fixture
def files(monkeypatch):
    """Contents of packaged files by member."""
    contents = {}

    def read(name, members):
        return {member: contents[name, member] for member in members}

    monkeypatch.setattr(packaged, "read_members", read)
    return contents


def test_lee_is_an_upper_triangle(files):
    at = sentences.GENSIM
    files["gensim", f"{at}lee.cor"] = "eins \xe9t\xe9\nzwei\ndrei\n".encode("latin-1")
    rows = "1\t0.2\t0.3\n\t1\t0.5\n\t\t1\n"
    files["gensim", f"{at}similarities0-1.txt"] = rows.encode()
    got = sentences.lee()
    assert got.first == ["eins été", "eins été", "zwei"]
    assert got.second == ["zwei", "drei", "drei"]
    assert got.scores.tolist() == [0.2, 0.3, 0.5]


def test_word_pairs(files, monkeypatch):
    text = "# about\n# Word 1\tWord 2\tHuman\nlove\tsex\t6.77\nold\tnew\t1.5\n"
    files["gensim", f"{sentences.GENSIM}wordsim353.tsv"] = text.encode()
    got = sentences.word_pairs("wordsim353")
    assert got[:2] == (["love", "old"], ["sex", "new"])
    assert got.scores.tolist() == [6.77, 1.5]
    with pytest.raises(ValueError, match="name: expected one of wordsim353"):
        sentences.word_pairs("sick")


def test_definitions(files):
    line = (
        "00021 00 s 03 alone(p) 0 all_alone 0 a 0 001 & 01 a 0000 | not with others; "
        '"she was alone"; "he sat, alone"'
    )
    for part in sentences.PARTS:
        text = "  1 This software\n" + (line if part == "adj" else "")
        files["wordnet", f"usr/share/wordnet/data.{part}"] = text.encode()
    sentences.definitions.cache_clear()
    (got,) = sentences.definitions()
    assert got.words == ("alone", "all alone", "a")
    assert got.definition == "not with others"
    assert got.examples == ("she was alone", "he sat, alone")
    assert sentences.glosses() == (["not with others"], ["alone"])
    with pytest.raises(ValueError, match="count: expected 0 to 1, got 2"):
        sentences.glosses(2)
    sentences.definitions.cache_clear()


def test_hypernyms(files):
    """By place in the file of their part of speech; other pointers do not count."""
    nouns = (
        "00001740 03 n 01 entity 0 001 ~ 00001930 n 0000 | all that is",
        "00001930 03 n 02 thing 0 matter 0 002 @ 00001740 n 0000 + 00000001 v 0101 | x",
        "00002000 03 n 01 Rome 0 002 @i 00001930 n 0000 @ 00001740 n 0000 | a city",
    )
    verbs = (
        "00000001 30 v 01 move 0 000 02 + 02 00 + 08 00 | to go",
        "00001740 30 v 01 run 0 001 @ 00000001 v 0000 01 + 02 00 | to go fast",
    )
    texts = dict(noun="\n".join(nouns), verb="\n".join(verbs))
    for part in sentences.PARTS:
        files["wordnet", f"usr/share/wordnet/data.{part}"] = texts.get(
            part, ""
        ).encode()
    sentences.hypernyms.cache_clear()
    assert sentences.hypernyms() == ((), (0,), (1, 0), (), (3,))
    sentences.hypernyms.cache_clear()


def module(entries):
    """Entries as a SWORD module stores them, in two blocks."""
    half = len(entries) // 2
    blocks = packed = places = b""
    for block, part in enumerate((entries[:half], entries[half:])):
        start, raw = len(packed), b""
        for entry in part:
            data = entry.encode()
            places += struct.pack("<IIH", block, len(raw), len(data))
            raw += data
        packed += zlib.compress(raw)
        blocks += struct.pack("<III", start, len(packed) - start, len(raw))
    return blocks, places, packed


def test_verses_are_aligned_by_chapter(files):
    def text(chapters):
        entries = ["", '<div osisID="Gen" type="book"/>']
        for name, verses in chapters.items():
            entries += [f'<chapter n="1" osisID="{name}" sID="{name}"/>', *verses]
        return entries

    old = {"Gen.1": ["<title>A</title>In <w x='1'>the</w>", "And"], "Gen.2": ["Thus"]}
    new = {"Gen.1": ["At<note>b <i>c</i></note> first", "Then"], "Gen.2": ["So", "x"]}
    for name, chapters, folder in (
        ("kjv", old, "engKJV2006eb"),
        ("web", new, "engWEB2015eb"),
    ):
        for part in sentences.TESTAMENTS:
            parts = module(text(chapters) if part == "nt" else ["", ""])
            for kind, data in zip("svz", parts, strict=True):
                member = f"usr/share/sword/modules/texts/ztext/{folder}/{part}.bz{kind}"
                files[name, member] = data
    sentences.bible.cache_clear()
    assert sentences.verses() == (["At first", "Then"], ["In the", "And"])
    assert sentences.verses(1, seed=0) in (
        (["At first"], ["In the"]),
        (["Then"], ["And"]),
    )
    sentences.bible.cache_clear()


def test_sentences_of_corpora(files):
    for c, n in sentences.BROWN.items():
        for i in range(1, n + 1):
            text = "\n\tThe/at end/nn ./.\n\n\tSo/rb\n" if (c, i) == ("a", 1) else "\n"
            files["brown", f"c{c}{i:02d}"] = text.encode()
    sentences.brown_sentences.cache_clear()
    assert sentences.brown_sentences() == ("The end .", "So")
    sentences.brown_sentences.cache_clear()


STS = {
    "named.csv": 'score,"sentence2",sentence1\n3,"b, c",a\n1,e,d\n',
    "named.tsv": 'sentence1\tsentence2\tscore\na\t"b, c\t3\nd\te\t1\n',
    "plain.tsv": "a\tb, c\t3\nd\te\t1\n",
    "semeval.tsv": "3\ta\tb, c\n\n1\td\te\n",
    "stsb.tsv": "main\tx\t2012\t1\t3\ta\tb, c\nmain\tx\t2012\t2\t1\td\te\n",
    "rows.jsonl": "\n".join(
        json.dumps(dict(Sentence1=a, sentence2=b, label=s))
        for a, b, s in (("a", "b, c", 3), ("d", "e", 1))
    ),
}


@pytest.mark.parametrize("name", STS)
def test_files_of_the_user(name, tmp_path):
    file = tmp_path / name
    file.write_text(STS[name], encoding="utf-8")
    got = sentences.read_sts(file)
    assert [x.lstrip('"') for x in got.second] == ["b, c", "e"]
    assert got.first == ["a", "d"]
    np.testing.assert_array_equal(got.scores, [3, 1])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tsv", "", "expected a pair or more"),
        ("a.tsv", "a\tb\n", ":1: expected columns sentence1, sentence2 and score"),
        ("a.tsv", "sentence1\tb\tscore\n", ":1: expected columns"),
        ("a.tsv", "a\tb\t1\nc\td\n", ":2: expected two texts and a score"),
        ("a.tsv", "a\tb\t1\nc\t \t1\n", ":2: expected no empty text"),
        ("a.tsv", "a\tb\t1\nc\td\tnan\n", ":2: expected no empty text and a number"),
        ("a.jsonl", '{"sentence1": "a"}', ":1: expected two texts and a score"),
        ("a.jsonl", "[1]", ":1: no JSON object"),
    ],
)
def test_files_that_cannot_be_read(name, text, message, tmp_path):
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(ValueError, match=message) as raised:
        sentences.read_sts(file)
    assert "\n" not in str(raised.value) and str(file) in str(raised.value)
    with pytest.raises(ValueError, match="expected a text file"):
        sentences.read_sts(tmp_path / "none.tsv")


def test_a_model_that_is_not_packaged():
    with pytest.raises(ValueError, match='name: expected "minilm" or "reranker"'):
        sentences.model("bert")


@pytest.mark.slow
@pytest.mark.network
def test_the_packaged_sets():
    assert len(sentences.lee().scores) == 1225
    assert len(sentences.word_pairs("wordsim353").first) == 353
    assert len(sentences.word_pairs("simlex999").first) == 999
    assert len(sentences.definitions()) == 117_659
    assert sum(len(d.words) for d in sentences.definitions()) == 206_978
    assert len(sentences.verses().queries) > 30_000
    assert len(sentences.brown_sentences()) == 57_340
    assert len(sentences.corpus_sentences()) == 100_000

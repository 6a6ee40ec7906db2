"""DSE's pairs, the teacher's logits on disk, and what is measured, by hand."""

import types

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from contrastive_jax.data import packaged, sentences
from contrastive_jax.models import Encoder, pretrained
from contrastive_jax.tasks import text_encoders
from experiments.dse import config as configs
from experiments.dse import data, experiment, measure, model


def stand_in(monkeypatch):
    """BERT-large, without its weights."""
    large = Encoder(30_522, width=1024, depth=24, heads=16, mlp_width=4096)
    recipe = pretrained.Recipe(large)
    monkeypatch.setattr(text_encoders, "make_recipe", lambda _: recipe)


@pytest.mark.experiments
def test_the_model_of_the_paper_by_shapes(monkeypatch):
    stand_in(monkeypatch)
    config = configs.get_config("paper")
    state = jax.eval_shape(lambda: experiment.init(config))
    first, second = state.params["head"]
    assert first["kernel"].shape == (4 * 4 * 1024, 512)  # 16 D
    assert second["kernel"].shape == (512, 1)
    assert "block_23" in state.params["encoder"]


@pytest.fixture
def few_verses(monkeypatch):
    """24 verses of five words each, in two translations that differ in one word."""
    rng, words = np.random.default_rng(0), [f"{a}{b}" for a in "pqrst" for b in "xyzw"]
    drawn = [" ".join(rng.choice(words, 5, replace=False)) for _ in range(24)]
    pairs = sentences.Paired([f"the {t}" for t in drawn], [f"ye {t}" for t in drawn])
    monkeypatch.setattr(sentences, "verses", lambda: pairs)
    data.verses.cache_clear()
    yield dict(zip(*pairs, strict=True))
    data.verses.cache_clear()


def test_every_verse_has_its_translation_and_a_near_one(few_verses):
    options = dict(words=8, pool=12, negatives=2)
    train = data.verses(0, 12, **options, seed=0)
    test = data.verses(1, 11, **options, seed=0)
    assert len(train.first) == 12 and len(test.first) == 11
    for pairs in (train, test):
        rows = zip(pairs.first, pairs.second, pairs.labels, strict=True)
        for i, (first, second, label) in enumerate(rows):
            assert (few_verses[first] == second) == (label == 1) == (i % 2 == 0)
    assert not {*train.first} & {*test.first}
    assert not {*train.second} & {*test.second}
    # Nearer than most others: more words in common.
    near = model.overlap(train.first[1::2], train.second[1::2]).mean()
    others = [t for q, t in few_verses.items() if q in {*train.first}]
    every = np.mean([model.overlap(train.first[::2], [t] * 6).mean() for t in others])
    assert near > every
    assert data.verses(0, 12, **options, seed=1).first != train.first
    with pytest.raises(ValueError, match=r"^data.pool: expected 6"):
        data.verses(0, 12, **options | {"pool": 13}, seed=0)


def test_words_have_the_same_directions_in_every_process():
    """They are numbered as they come, each weighed by its rarity."""
    encode = data.bag_of_words(["d b a b", "c a"], width=8)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (4, 8))
    rarity = np.log([2, 2, 1, 2])  # d, b, a, c
    for i, word in enumerate("dbac"):
        got = encode([word])[0]
        np.testing.assert_allclose(got, rarity[i] * signs[i], rtol=1e-6)
    both = encode(["b c z"])[0]
    np.testing.assert_allclose(both, np.log(2) * (signs[1] + signs[3]), rtol=1e-6)


def test_users_files(tmp_path):
    config = configs.get_config("smoke")
    config.data.update(name=f"{tmp_path}/{{split}}.tsv", labeled=1, unlabeled=1)
    config.data.update(validation=1, test=1)
    for part in data.PARTS:
        lines = ["sentence1\tsentence2\tlabel", f"{part}\tb\t1", "c\td\t0", "e\tf\t1"]
        (tmp_path / f"{part}.tsv").write_text("\n".join(lines))
    found = data.read(config)
    assert found["train"].first == ["train", "c"] and found["test"].second == ["b"]
    config.data.test = 4
    with pytest.raises(ValueError, match="expected 4 pairs, got 3"):
        data.read(config)
    config.data.name = "no such file"
    with pytest.raises(packaged.DataMissing, match=r"^data.name: expected verses"):
        data.read(config)


class Cut(BaseException):
    """Stands for a process that ends."""


def test_logits_are_kept_block_by_block(monkeypatch, tmp_path):
    """A run that was cut off reads no pair a second time; other pairs are new ones."""
    read, limit = [], 2

    def score(params, pairs):
        if len(read) == limit:
            raise Cut
        read.append(len(pairs))
        return np.array([[float(a), float(b)] for a, b in pairs], np.float32)

    encoder = types.SimpleNamespace(params={}, tokenize=list, score=score)
    monkeypatch.setattr(text_encoders, "load", lambda _: encoder)
    monkeypatch.setattr(model, "BLOCK", 3)
    config = ConfigDict(dict(teacher=text_encoders.packaged(path="reranker")))
    first, second = ([str(i + k) for i in range(8)] for k in (0, 100))
    pairs, file = data.Pairs(first, second, np.zeros(8)), tmp_path / "a" / "part.npz"
    with pytest.raises(Cut):
        model.teach(config, pairs, file)
    limit = 9
    got = model.teach(config, pairs, file)
    assert read == [3, 3, 2]
    np.testing.assert_array_equal(got, np.stack([np.arange(8), np.arange(8) + 100], 1))
    np.testing.assert_array_equal(model.teach(config, pairs, file), got)
    assert read == [3, 3, 2]
    turned = data.Pairs(first[::-1], second[::-1], np.zeros(8))
    np.testing.assert_array_equal(model.teach(config, turned, file), got[::-1])
    assert [x.name for x in (tmp_path / "a").iterdir()] == ["part.npz"]


def test_forms_of_the_teachers_logits():
    config = configs.get_config("smoke")
    two = np.array([[1.0, 4.0], [2.0, -1.0]], np.float32)
    np.testing.assert_array_equal(model.task_logits(config, two), [[3.0], [-3.0]])
    config.loss.task = "multiclass"
    with pytest.raises(ValueError, match=r"^head.classes: expected 2"):
        model.task_logits(config, two)
    config.head.classes = 2
    assert model.task_logits(config, two) is two
    logits = np.random.default_rng(0).normal(size=4000) * 4
    chance = 1 / (1 + np.exp(-(0.5 * logits - 1)))
    labels = np.random.default_rng(1).random(4000) < chance
    np.testing.assert_allclose(model.calibrate(logits, labels), (0.5, -1), atol=0.15)
    shares = model.overlap(["a b", "a"], ["b c.", "A"])
    np.testing.assert_allclose(shares, [-1 / 3, 1])


def test_rows_without_a_teacher_are_the_labeled_ones():
    config = configs.get_config("smoke")
    config.data.update(labeled=40, unlabeled=24)
    rows = data.arrays(config)
    for changes, expected in (
        ({}, 64),
        ({"coeff": 0.0}, 40),
        ({"unlabeled": False}, 40),
    ):
        own = config.copy_and_resolve_references()
        own.loss.update(changes)
        source = data.batches(own, 0, rows)
        batches = [next(source) for _ in range(4)]
        labeled = [x for batch in batches for x in batch["labeled"]]
        assert all(labeled) == (expected == 40)
    assert rows["train"]["teacher"].shape == (64, 1)
    assert rows["train"]["label"].dtype == np.float32


def test_quality_by_hand():
    logits, labels = np.array([[2.0], [-1.0], [1.0]]), np.array([1.0, 0.0, 0.0])
    teacher = np.array([[3.0], [-2.0], [-1.0]])
    found = measure.quality(logits, labels, teacher, "binary")
    assert found["accuracy"] == pytest.approx(200 / 3)
    assert found["f1"] == pytest.approx(200 / 3)
    assert found["spearman"] == pytest.approx(1)
    found = measure.quality(-logits, labels, teacher, "regression")
    assert found["spearman"] == pytest.approx(-1) and found["pearson"] < 0
    scores = np.array([[2.0, 1.0], [0.0, 1.0]])
    found = measure.quality(scores, np.array([0, 0]), scores, "multiclass")
    assert found["accuracy"] == 50


@pytest.mark.experiments
def test_the_dot_product_is_a_scale_and_an_offset_of_it():
    config = configs.get_config("smoke")
    config.head.update(features="dot", drop=True)
    batch = next(experiment.batches(config, 0))
    state = experiment.init(config, rows=batch)
    before = model.Student(config, state.params)
    u, v = before.both(batch)
    # As the fit begins: mean 0 and variance 1, and the logits say what is right.
    both = np.concatenate([u, v])
    np.testing.assert_allclose(both.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(both.std(axis=0), 1, rtol=1e-3)
    said = before.score(u, v)[:, 0]
    assert said[batch["label"] > 0.5].mean() > said[batch["label"] < 0.5].mean()
    step = jax.jit(experiment.make_step(config))
    state, metrics = step(state, batch)
    assert np.isfinite(metrics["loss"])
    one = model.Student(config, state.params)
    u, v = one.both(batch)
    every = one.score_all(u, v, chunk=5)
    want = one.score(u, v)
    np.testing.assert_allclose(np.diagonal(every[..., 0]), want[:, 0], rtol=1e-4)
    (layer,) = state.params["head"]
    by_hand = (u * v).sum(axis=1) * layer["kernel"][0, 0] + layer["bias"][0]
    np.testing.assert_allclose(want[:, 0], by_hand, rtol=1e-4)


@pytest.mark.experiments
def test_student_and_teacher_from_folders(tmp_path, monkeypatch):
    """As the recipe has them: "~/..." for both, the teacher with two classes."""
    monkeypatch.setenv("HOME", str(tmp_path))
    config = configs.get_config("smoke")
    recipe = text_encoders.make_recipe(config.model)
    params = text_encoders.init_params(recipe, jax.random.key(0))
    params = {"encoder": jax.device_get(params["encoder"])}
    rng, d = np.random.default_rng(0), config.model.width

    def layer(size):
        return {"kernel": rng.normal(size=(d, size)), "bias": np.zeros(size)}

    cross = params | {"pooler": layer(d), "classifier": layer(2)}
    tokenizer = text_encoders.make_tokenizer(config)
    for name, x in (("student", params), ("teacher", cross)):
        x = jax.tree.map(lambda y: np.asarray(y, np.float32), x)
        made = pretrained.TextEncoder(recipe, x, tokenizer, 16)
        pretrained.save_encoder(made, tmp_path / name)
    config.model = text_encoders.packaged(path="~/student")
    config.teacher = text_encoders.packaged(path="~/teacher", calibrate=False)
    arrays = data.arrays(config, tmp_path / "run")
    start = text_encoders.start(config, tmp_path / "run").params["encoder"]
    jax.tree.map(np.testing.assert_array_equal, start, params["encoder"])
    state = experiment.init(config, start, arrays["train"])
    one = model.Student(config, state.params)
    logits, found = measure.look(config, one, arrays["test"])
    assert logits.shape == (config.data.test, 1) and np.isfinite(found["spearman"])
    with np.load(tmp_path / "run/teacher/test.npz") as kept:
        assert kept["logits"].shape == (config.data.test, 2)

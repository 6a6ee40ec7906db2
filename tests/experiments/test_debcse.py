"""DebCSE's data and measures, on texts small enough to check by hand."""

import jax
import numpy as np
import pytest

from contrastive_jax import training
from contrastive_jax.data import packaged
from contrastive_jax.tasks import text_encoders
from experiments.debcse import config as configs
from experiments.debcse import data, experiment, measure, model
from tests.language import bert_by_sizes as stand_in  # noqa: F401

CHAINS = [("a", "b", "c"), ("a", "b", "d"), ("a", "e"), ("a", "b")]


@pytest.fixture(scope="module")
def config():
    return configs.get_config("smoke")


@pytest.fixture(scope="module")
def prepared(config):
    return data.prepared(config)


def of_method(config, name):
    return training.changed(config, experiment.METHODS[name])


def texts(rows, *, special):
    """Rows of tokens as texts, with special tokens or with classes."""
    size = max(map(len, rows))
    tokens = np.array([[*row, *[0] * (size - len(row))] for row in rows], np.int32)
    where = np.arange(size)[None, :] < np.array([[len(row)] for row in rows])
    classes = None if special else np.zeros((len(rows), 2), int)
    return data.Texts(tokens, where, classes)


def test_special_tokens_make_nothing_alike():
    rows = [[2, 7, 8, 3], [2, 9, 10, 3], [2, 7, 8, 9, 3]]
    ends = texts(rows, special=True)
    got = model.surfaces(ends, np.array([0]), np.array([[1, 2]]), "jaccard", chunk=2)
    np.testing.assert_allclose(got, [[0, 2 / 3]], rtol=1e-6)
    bare = texts([row[1:-1] for row in rows], special=False)
    again = model.surfaces(bare, np.array([0]), np.array([[1, 2]]), "jaccard", chunk=2)
    np.testing.assert_allclose(again, got)
    with pytest.raises(ValueError, match=r"^data.surface: expected one of"):
        model.surfaces(bare, np.array([0]), np.array([[1]]), "looks")


def test_pairs_are_graded_by_depth():
    rng, names = np.random.default_rng(0), ["w", "x", "y", "z"]
    grades = {(0, 1): 4 / 6, (0, 2): 2 / 5, (0, 3): 4 / 5, (1, 2): 2 / 5}
    grades |= {(1, 3): 4 / 5, (2, 3): 2 / 4}
    seen = set()
    for _ in range(40):
        used, first, second, gold = measure.graded_pairs(rng, names, CHAINS, range(4))
        for a, b, grade in zip(first, second, gold, strict=True):
            pair = tuple(sorted((names.index(used[a]), names.index(used[b]))))
            assert grade == pytest.approx(grades[pair])
            seen.add(pair)
    assert seen == set(grades)


def test_bias_is_measured_at_fixed_grade():
    """Looks that go with the grade alone are none."""
    rng = np.random.default_rng(0)
    gold = np.repeat(np.arange(10.0), 200)
    noise, other = rng.normal(size=(2, 2000))
    assert abs(measure.at_fixed_grade(gold + noise, gold + other, gold)) < 0.05
    biased = measure.at_fixed_grade(gold + noise + other, gold + other, gold)
    assert biased == pytest.approx(0.69, abs=0.05)


def test_candidates_are_others_and_described(config, prepared):
    n = len(prepared.train.tokens)
    for near in prepared.candidates.values():
        assert near.rows.shape == (n, config.data.candidates)
        assert (near.rows != np.arange(n)[:, None]).all() and near.rows.min() >= 0
    near = prepared.candidates["positives"]
    assert (np.diff(near.semantic, axis=1) <= 1e-5).all()
    i, j = 3, near.rows[3, 5]
    a, b = ({*prepared.train.tokens[k]} for k in (i, j))
    assert near.surface[3, 5] == pytest.approx(len(a & b) / len(a | b))


def test_the_propensity_draws_other_styles(config, prepared):
    """The switch is `loss.positives`; most are still of the topic."""
    found = {}
    for name in ("neighbors", "ipw_positives"):
        own = of_method(config, name)
        probs = experiment.chances(own)["positives"]
        np.testing.assert_allclose(probs.sum(axis=1), 1, rtol=1e-4)
        found[name] = measure.drawn(prepared, "positives", probs)
    plain, ipw = found.values()
    assert ipw["positives_same_style"] < plain["positives_same_style"] - 0.05
    assert ipw["positives_surface"] < plain["positives_surface"] - 0.03
    assert ipw["positives_same_topic"] > 0.6  # by chance 1 in 20
    assert ipw["positives_sample_size"] > 2
    assert experiment.chances(of_method(config, "simcse")) == {}


def test_batches_hold_what_is_drawn_and_can_be_gone_on_with(config):
    source = experiment.batches(config, 0)
    next(source)
    want, got = next(source), next(experiment.batches(config, 1))
    for name, x in want.items():
        np.testing.assert_array_equal(got[name], x)
    paper = configs.paper_batch()
    assert {*want} == {*paper}
    for name, (shape, dtype) in paper.items():
        assert want[name].ndim == 1 + len(shape) and want[name].dtype == dtype
    plain = next(experiment.batches(of_method(config, "simcse"), 0))
    assert {*plain} == {"tokens", "where", "row"}


def test_a_bag_begins_with_the_vectors_of_the_reference(config, prepared):
    own = training.changed(config, {"start.scale": 0.5})
    got = experiment.start_params(own)["encoder"]["token"]["embedding"]
    np.testing.assert_allclose(got, 0.5 * prepared.table, rtol=1e-6)
    assert experiment.start_params(config) is None
    own = training.changed(own, {"model.width": 8})
    with pytest.raises(ValueError, match=r"^reference.width: expected 8 .*, got 16"):
        experiment.start_params(own)


@pytest.mark.experiments
def test_two_blocks_of_a_packaged_encoder_are_the_start():
    config = configs.get_config("transformer")
    params = experiment.start_params(config)["encoder"]
    whole = text_encoders.load_path("reranker", "float32", "float32").params["encoder"]
    assert {*whole} - {*params} == {f"block_{i}" for i in range(2, 12)}
    state = experiment.init(config, {"encoder": params})
    jax.tree.map(np.testing.assert_array_equal, state.params["encoder"], params)


def test_own_texts_are_a_file(tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("one\ntwo\n\none\n")
    rng = np.random.default_rng(0)
    assert data.texts_of(rng, {"name": str(file)}) == (["one", "two"], None, None)
    with pytest.raises(packaged.DataMissing, match=r"^data.name: expected wordnet"):
        data.texts_of(rng, {"name": "no such file"})

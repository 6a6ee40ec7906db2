"""The primer's long tail and its measures, every objective, and the check of NCE."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import training
from contrastive_jax.data import packaged, vocabulary
from experiments.primer import config as configs
from experiments.primer import data, experiment, measure
from tests.experiments.test_every import distance, three_steps

# Further losses that reduce over devices by themselves; the smoke run has two more.
OTHERS = ("cross_entropy", "triplet", "distillation")
NOUNS = """  license
00001740 03 n 01 plant 0 001 ~ 00001741 n 0000 | a living thing without motion
00001741 03 n 02 tree 0 woody_plant 0 001 @ 00001740 n 0000 | a tall plant
00001742 03 n 01 oak 0 001 @ 00001741 n 0000 | a tree with acorns; "an old oak"
""".splitlines()


def stand_in(monkeypatch):
    """The paper variant reads made-up texts, of more labels than random ones name."""
    raw = data.synthetic(300)
    monkeypatch.setattr(data, "read_raw", lambda _: raw)


def test_definitions_go_by_their_hypernym():
    raw = data.by_hypernym([*NOUNS])
    assert raw.texts == [("00001741", "a tree with acorns")]
    assert raw.names["00001741"] == "tree, woody plant"
    assert raw.descriptions["00001741"] == "a tall plant"
    assert data.without("Trees, or a tree of wood", "tree, woody plant") == (
        "or a of wood"
    )


def test_unseen_labels_have_no_training_text_and_parts_share_none():
    texts = data.texts_of(configs.get_config("smoke"))
    held = set(range(texts.seen, len(texts.names)))
    assert len(held) == 4 and texts.seen == 16
    unseen = [set(texts.labels[f"unseen_{p}"]) for p in ("validation", "test")]
    assert unseen[0] | unseen[1] == held and not unseen[0] & unseen[1]
    for part in ("train", "validation", "test"):
        assert set(texts.labels[part]) == set(range(texts.seen))
    assert (np.diff(texts.counts) <= 0).all() and texts.counts[-1] < texts.counts[0]
    rows = sum(len(x) for x in texts.tokens.values())
    assert rows == len(data.synthetic().texts)
    for tokens in (*texts.tokens.values(), texts.label_tokens):
        assert tokens.max() < len(texts.vocabulary) and (tokens != vocabulary.END).all()


def test_own_files_are_named_when_they_are_wrong(tmp_path):
    with pytest.raises(packaged.DataMissing, match=r"^data.name: expected wordnet"):
        data.read_raw(str(tmp_path))
    (tmp_path / "labels.tsv").write_text("oak\ta tree\n")
    (tmp_path / "texts.tsv").write_text("oak\twith acorns\nelm\twith leaves\n")
    with pytest.raises(packaged.DataMissing, match=r"no description of .'elm'"):
        data.read_raw(str(tmp_path))
    (tmp_path / "texts.tsv").write_text("oak\twith acorns\nno tab\n")
    with pytest.raises(ValueError, match=r"texts.tsv:2: expected 2 columns, got 1"):
        data.read_raw(str(tmp_path))
    (tmp_path / "texts.tsv").write_text("oak\twith acorns\n")
    assert data.read_raw(str(tmp_path)).texts == [("oak", "with acorns")]
    (tmp_path / "own.jsonl").write_text('{"text": "with leaves", "label": "elm"}')
    raw = data.read_raw(f"{tmp_path}/own.jsonl")
    assert raw == ([("elm", "with leaves")], {"elm": "elm"}, {"elm": "elm"})
    config = configs.get_config("smoke")
    config.data.min_texts = 10_000
    with pytest.raises(ValueError, match=r"^data.min_texts: expected"):
        data.texts_of(config)


def test_measures_by_hand():
    scores = np.array([[3.0, 0.0], [1.0, 2.0], [2.0, 1.0], [0.0, 3.0]])
    labels = np.array([0, 0, 1, 1])
    # Texts by score for label 0: 0 (its), 2, 1 (its), 3; for label 1: 3 (its), 1, 2.
    np.testing.assert_allclose(measure.precisions(scores, labels), [5 / 6, 5 / 6])
    x = np.array([[1.0, 0.1], [1.0, -0.1], [0.1, 1.0], [-0.1, 1.0]])
    assert measure.few_shot(x, np.array([7, 7, 9, 9]), 1, 3) == 1.0
    assert measure.few_shot(x, np.array([7, 9, 7, 9]), 1, 3) < 1.0
    centers = measure.means(x, np.array([0, 0, 1, 1]), 2)
    np.testing.assert_allclose(centers, np.eye(2), atol=1e-12)


def test_negatives_are_other_labels_or_follow_their_frequency():
    config = configs.get_config("smoke")
    config.loss.negatives = 400
    keys = jax.random.split(jax.random.key(0), 4)
    label, log_noise = jnp.array([0, 1, 2, 1]), jnp.log(jnp.array([0.5, 0.3, 0.2]))
    run = jax.jit(
        functools.partial(experiment.contrast, axis_name=None), static_argnums=0
    )
    # Only the own label scores high: were it drawn, the loss would be large.
    scores = 50.0 * jax.nn.one_hot(label, 3)
    frozen = config.copy_and_resolve_references()
    loss = run(Frozen(frozen), scores, label, keys, log_noise)
    assert loss < 1e-6
    frozen.loss.corrected = True
    flat = jnp.tile(log_noise, (4, 1))  # scores of the noise itself: all alike
    got = run(Frozen(frozen), flat, label, keys, log_noise)
    np.testing.assert_allclose(got, np.log(401), rtol=1e-5)


class Frozen:
    """A config that `jit` takes as a constant."""

    def __init__(self, config):
        self.loss = config.loss


def test_ranking_nce_recovers_what_binary_nce_does_not():
    config = configs.get_config("nce")
    config.data.update(batch_size=1024, contexts=4, outcomes=6, rank=2)
    config.train.num_steps, config.optim.learning_rate = 150, 0.2
    errors = {}
    for name in ("nce_ranking", "nce_binary"):
        own = training.changed(config, experiment.METHODS[name])
        state, step = experiment.init(own), jax.jit(experiment.make_step(own))
        source = experiment.batches(own, 0)
        for _ in range(own.train.num_steps):
            state, _ = step(state, next(source))
        trained = {name: (own, state)}
        found = measure.nce(config, trained, experiment.make_model)
        errors[name] = found[f"{name}/log_ratio_error"]
    assert errors["nce_ranking"] < 0.05 < errors["nce_binary"] / 2


@pytest.mark.experiments
@pytest.mark.parametrize("name", OTHERS)
def test_every_objective_equals_itself_on_eight_devices(name):
    config = training.changed(configs.get_config("smoke"), experiment.METHODS[name])
    config.optim.update(name="sgd", learning_rate=0.01, warmup_steps=0)
    start = experiment.init(config)
    want, values = three_steps(experiment, config, start, "jit", 1)
    got, others = three_steps(experiment, config, start, "pmap", 8)
    np.testing.assert_allclose(others["loss"], values["loss"], rtol=1e-5)
    assert values["grad_norm"] > 0
    assert distance(got, want) <= 1e-5 * distance(want, [0 * b for b in want])

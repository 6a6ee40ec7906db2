"""MoE-Sim's pairs, upcycled encoder, experts over devices and measures."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from contrastive_jax import losses, parallel, training
from contrastive_jax.data import packaged
from contrastive_jax.tasks import text_encoders
from experiments.moe import data, experiment, measure
from experiments.moe import model as networks
from experiments.moe.config import get_config


@pytest.fixture
def config():
    return get_config("smoke")


def check_corpus(c):
    """Pairs are of one field; those of a split share no text with another's."""
    np.testing.assert_array_equal(*c.field[c.pairs.T])
    assert c.related[c.pairs[:, 0], c.pairs[:, 1]].all() and c.related.diagonal().all()
    np.testing.assert_array_equal(c.related, c.related.T)
    texts = [set(c.pairs[c.split == s].ravel()) for s in range(3)]
    assert all(texts) and sum(map(len, texts)) == len(set.union(*texts))


def test_splits_share_no_text(config):
    c = data.corpus(config)
    check_corpus(c)
    for field in range(2):
        pairs, labels = data.tested(config, field)
        assert labels.sum() * 2 == len(labels) == len({*map(tuple, pairs.tolist())})
        np.testing.assert_array_equal(c.related[pairs[:, 0], pairs[:, 1]], labels)
        seen = set(c.pairs[c.split < 2].ravel())
        assert (c.field[pairs] == field).all() and not seen & set(pairs.ravel())


def test_batches_take_the_fields_in_turn(config):
    c = data.corpus(config)
    batch = next(data.batches(config, 3))
    again = next(data.batches(config, 3))
    assert all(np.array_equal(batch[name], again[name]) for name in batch)
    np.testing.assert_array_equal(batch["field"], np.arange(32) % 2)
    assert not batch["apart"].diagonal().any() and not batch["apart"].all()
    assert batch["a_tokens"].shape == batch["b_where"].shape == (32, 12)
    own = training.changed(config, {"data.only": "b", "data.batch_size": 8})
    assert (next(data.batches(own, 0))["field"] == 1).all()
    # For the test, the texts of the validation are trained on, too.
    later = training.changed(config, {"eval.split": "validation"})
    used = [sum(c.split < s) for s in (2, 1)]
    assert used[0] > used[1] and data.tested(later, 0)[1].any()
    with pytest.raises(ValueError, match=r"^data.batch_size: expected a multiple of 2"):
        next(data.batches(training.changed(config, {"data.batch_size": 9}), 0))


def test_fields_of_the_pilot_disagree():
    config = get_config("pilot")
    c = data.corpus(config)
    assert len(c.texts) == 1000 and len(set(c.texts)) == 200
    np.testing.assert_array_equal(c.related.sum(axis=1), 20)  # the cluster
    same = [c.related[k : k + 200, k : k + 200] for k in (0, 200)]
    shared = (same[0] & same[1]).sum() / same[0].sum()
    assert shared < 0.2, "a random division agrees in a tenth, and with itself"
    rows = data.rows(config, c)["tokens"]
    assert rows[:, 1].max() < config.model.vocab_size and len(set(rows[:, 1])) == 200


def test_own_files_are_pairs_of_fields(tmp_path, config):
    for field in "ab":
        (tmp_path / field).mkdir()
        for part in ("train", "test"):
            text = f"a,b,label\n{part} x,{part} y,1\n{part} x,{part} z,0\n"
            (tmp_path / field / f"{part}.csv").write_text(text)
    own = training.changed(config, {"data.name": str(tmp_path)})
    c = data.corpus(own)
    assert len(c.texts) == 8 and c.split.tolist() == [0, 2, 0, 2]
    assert [c.texts[i] for i in c.pairs[0]] == ["train x", "train y"]
    lost = training.changed(config, {"data.name": str(tmp_path / "none")})
    with pytest.raises(packaged.DataMissing, match=r"^data.name: expected debian"):
        data.corpus(lost)


def test_an_upcycled_encoder_begins_as_the_dense_one(config):
    """Whatever the routing; and its parameters are those that the network asks for."""
    recipe = text_encoders.make_recipe(config.model)
    dense = text_encoders.init_params(recipe, jax.random.key(0))["encoder"]
    batch = next(data.batches(config, 0))
    tokens, where = (jnp.asarray(batch[f"a_{k}"]) for k in ("tokens", "where"))
    field = jnp.asarray(batch["field"])
    out = jax.jit(recipe.model.apply)({"params": dense}, tokens, where=where).last
    want = np.asarray(jnp.where(where[..., None], out, 0))
    for routing in ("enforced", "token_top_k"):
        own = training.changed(config, {"experts.routing": routing})
        network = experiment.make_model(own)
        state = experiment.init(own, dense)
        apply = functools.partial(network.apply, where=where, assignment=field)
        got = jax.jit(apply)({"params": state.params["encoder"]}, tokens)
        got = np.asarray(jnp.where(where[..., None], got.last, 0))
        np.testing.assert_allclose(got, want, atol=2e-5)
        asked = jax.eval_shape(
            lambda n=network: n.init(
                jax.random.key(0), tokens, where=where, assignment=field
            )
        )["params"]
        shapes = jax.tree.map(jnp.shape, state.params["encoder"])
        assert shapes == jax.tree.map(jnp.shape, asked)
    again = networks.dense(state.params["encoder"], config)
    jax.tree.map(np.testing.assert_array_equal, again, dense)
    table = state.params["encoder"]["token"]["embedding"]
    np.testing.assert_array_equal(table[-2:], np.tile(table[data.CLS], (2, 1)))


def test_experts_over_eight_devices_equal_one(config):
    """Value, and the gradient of every parameter, spread and not."""
    config = training.changed(config, {"experts.count": 8})
    state = experiment.init(config)
    params = state.params["encoder"]
    # Experts that differ.
    params["block_0"]["experts"] = jax.tree.map(
        lambda x: x * (1 + jnp.arange(8.0).reshape(-1, *[1] * (x.ndim - 1))),
        params["block_0"]["experts"],
    )
    batch = next(data.batches(config, 0))
    args = [jnp.asarray(batch[k]) for k in ("a_tokens", "a_where")]
    args.append(jnp.arange(32) * 3 % 8)

    def states(axis_name):
        network = experiment.make_model(config, axis_name)

        def run(params, tokens, where, expert):
            out = network.apply(
                {"params": params}, tokens, where=where, assignment=expert
            )
            return jnp.where(where[..., None], out.last, 0)

        return run

    spread, same = PartitionSpec("data"), PartitionSpec()
    places = jax.tree.map(lambda _: same, params)
    places["block_0"]["experts"] = jax.tree.map(
        lambda _: spread, params["block_0"]["experts"]
    )
    mapped = jax.shard_map(
        states("data"),
        mesh=parallel.make_mesh(parallel.choose_devices(8)),
        in_specs=(places, spread, spread, spread),
        out_specs=spread,
    )
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(32, 12, 16)))

    def gradient(run):
        def total(params):
            y = run(params, *args)
            return jnp.sum(y * weights), y

        return jax.jit(jax.grad(total, has_aux=True))(params)

    for a, b in zip(
        *map(jax.tree.leaves, map(gradient, (mapped, states(None)))), strict=True
    ):
        scale = np.abs(b).max()
        np.testing.assert_allclose(a, b, atol=2e-5 * max(scale, 1))


def test_routers_are_taught_by_real_tokens_alone(config):
    rng = np.random.default_rng(0)
    where = jnp.array([[True, True, False], [True, False, False]])
    field = jnp.array([0, 1])
    scores = [jnp.asarray(rng.normal(size=(6, 2)), jnp.float32) for _ in range(2)]
    rows, tasks = np.flatnonzero(where), jnp.array([0, 0, 1])

    @jax.jit
    def both(scores):
        real = [x[rows] for x in scores]
        every = jnp.concatenate(real)
        want = {
            "balance": losses.load_balancing(every),
            "information": losses.router_mutual_information(
                every, jnp.tile(tasks, 2), num_tasks=2
            ),
            "supervision": losses.info_nce((real[0] + real[1]) / 2, tasks),
        }
        return measure.router_losses(config, scores, where, field), want

    got, want = both(tuple(scores))
    assert got.keys() == want.keys()
    for name, x in want.items():
        np.testing.assert_allclose(got[name], x, rtol=1e-5, err_msg=name)


def test_measures_of_an_encoder_that_knows_the_pairs(config):
    c = data.corpus(config)

    def oracle(rows):
        """The number of the first text that each is related to."""
        return np.eye(len(c.texts))[c.related[rows].argmax(axis=1)]

    found = measure.evaluate(config, oracle)
    assert found["a"] == found["mean"] == found["all"] == found["auc"] == 100
    constant = measure.evaluate(config, lambda rows: np.ones((len(rows), 2)))
    np.testing.assert_allclose(constant["mean"], 200 / 3)
    assert constant["auc"] == 50
    # Each text by the encoder of its field.
    both = measure.joined(config, [oracle, lambda rows: 0 * oracle(rows)])
    found = measure.evaluate(config, both)
    assert found["a"] == 100 and abs(found["b"] - 200 / 3) < 1e-9
    words = measure.tfidf(config)(np.arange(4))
    np.testing.assert_allclose(np.linalg.norm(words, axis=1), 1, rtol=1e-5)


@pytest.mark.slow
def test_pilot_shows_what_experts_are_for(tmp_path):
    """Two methods of the variant: experts are ahead, others' experts are of no use."""
    config = get_config("pilot")
    config.eval.every, config.devices = 0, 1
    config.methods = ("shared_tags", "moe_tags")
    results = experiment.run(config, tmp_path)
    mean = {name: results[f"{name}/mean"] for name in ("shared_tags", "moe_tags")}
    assert mean["moe_tags"] > mean["shared_tags"] + 10
    assert results["moe_tags, wrong expert/mean"] < 70

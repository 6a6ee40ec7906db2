"""An encoder from scratch: its tokenizer, masking, its start, its views."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import parallel, training
from contrastive_jax.data import sentences as sets
from contrastive_jax.data.augment.text import mask_tokens
from contrastive_jax.tasks import sentences, text_encoders

SIZES = dict(vocab_size=300, width=16, depth=1, heads=2, mlp_width=32, max_length=16)


def small_config(**start):
    config = training.defaults(
        optim=dict(learning_rate=1e-2), train=dict(num_steps=1, log_every=5)
    )
    config.data = {"batch_size": 16}
    config.model = text_encoders.small(**SIZES)
    start = dict(texts="synthetic", count=200, length=16, learning_rate=1e-2) | start
    config.start = text_encoders.starting(**start)
    return config


def test_tokenizer():
    texts = ["a cat sat", "A cat ran, cats run"] * 9
    tokenizer = text_encoders.train_tokenizer(texts, 60)
    assert tokenizer.token_to_id("[PAD]") == 0
    assert tokenizer.token_to_id("[MASK]") == text_encoders.MASK
    assert tokenizer.encode("CAT").tokens == ["[CLS]", "cat", "[SEP]"]
    assert tokenizer.encode("tacat").tokens[1:-1] == ["t", "##a", "##cat"]
    again = text_encoders.train_tokenizer(texts, 60)
    assert again.get_vocab() == tokenizer.get_vocab()
    assert text_encoders.train_tokenizer(texts, 20).get_vocab_size() == 20


def test_rows():
    tokenizer = text_encoders.train_tokenizer(["a cat sat", "cats"] * 9, 60)
    rows = text_encoders.rows(tokenizer, ["a cat", "cat " * 9], 6)
    assert rows["tokens"].shape == (2, 6)
    assert rows["where"].sum(axis=1).tolist() == [4, 6]
    assert not rows["tokens"][~rows["where"]].any()
    with pytest.raises(ValueError, match="texts: expected no empty text, got 1 of 2"):
        text_encoders.rows(tokenizer, ["a", " "], 6)


def test_masked_tokens():
    n, t, size = 4000, 12, 50
    tokens = jnp.tile(jnp.arange(10, 10 + t), (n, 1))
    where = jnp.arange(t)[None, :] < jnp.array([[0], [1], [8], [12]] * (n // 4))
    keys = jax.random.split(jax.random.key(0), n)
    hide = functools.partial(mask_tokens, mask=1, vocab_size=size, rate=0.25)
    out = jax.jit(hide)(keys, tokens, where)
    assert out.where.sum(axis=1)[:4].tolist() == [0, 1, 2, 3]
    old = np.take_along_axis(np.asarray(tokens), np.asarray(out.places), axis=1)
    np.testing.assert_array_equal(out.labels, old)
    # Nothing else changes, and no place is hidden twice or outside of `where`.
    hidden = np.zeros((n, t), int)
    rows, columns = np.nonzero(out.where)
    np.add.at(hidden, (rows, np.asarray(out.places)[rows, columns]), 1)
    assert hidden.max() == 1 and not (hidden * ~np.asarray(where)).any()
    changed = np.asarray(out.tokens != tokens)
    assert not (changed & (hidden == 0)).any()
    share = np.asarray(out.tokens == 1)[hidden == 1].mean()
    assert share == pytest.approx(0.8 + 0.1 / size, abs=0.02)
    kept = 1 - changed[hidden == 1].mean()
    assert kept == pytest.approx(0.1 + 0.1 / size, abs=0.02)
    counts = hidden[3::4].mean(axis=0)
    np.testing.assert_allclose(counts, 0.25, atol=0.05)
    with pytest.raises(
        ValueError, match=r"rate: expected a number in \(0, 1\], got 2.0"
    ):
        mask_tokens(keys, tokens, where, mask=1, vocab_size=size, rate=2.0)


def test_start_learns_and_embeds(tmp_path):
    config = small_config(num_steps=40)
    start = text_encoders.start(config, tmp_path)
    lines = (tmp_path / "start" / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line)["loss"] for line in lines]
    assert found[-1] < found[0] - 0.2
    state = text_encoders.start_init(config)
    encode = text_encoders.encoder(start.recipe, start.params, start.tokenizer, 16)
    texts = sets.synthetic(5)
    vectors = encode(texts)
    rows = text_encoders.rows(start.tokenizer, texts, 16)
    apply = jax.jit(start.embed)
    plain = apply(start.params, rows["tokens"], rows["where"])
    np.testing.assert_allclose(vectors, plain, atol=1e-5)
    before = state.params["encoder"]["token"]["embedding"]
    assert np.abs(before - start.params["encoder"]["token"]["embedding"]).max() > 0.01
    # A second start reads the checkpoint.
    again = text_encoders.start(config, tmp_path)
    jax.tree.map(np.testing.assert_array_equal, again.params, start.params)
    keys = jax.random.split(jax.random.key(0), 5)
    two = jax.jit(functools.partial(text_encoders.views, start.recipe))(
        start.params, rows["tokens"], rows["where"], keys
    )
    assert two.shape == (2, 5, 16)
    assert float(jnp.min(jnp.linalg.norm(two[0] - two[1], axis=-1))) > 1e-3
    got = sentences.evaluate(encode, sets=("synthetic",))
    assert set(got) == {"synthetic/spearman", "synthetic/pearson"}


def test_start_without_steps_is_random(tmp_path):
    config = small_config(num_steps=0)
    params = text_encoders.start(config, tmp_path).params
    want = text_encoders.start_init(config).params
    jax.tree.map(np.testing.assert_array_equal, params, jax.device_get(want))
    assert not list(tmp_path.iterdir())


def test_first_layers_end_at_their_hidden_states(tmp_path):
    config = small_config(num_steps=0)
    config.model.depth = 2
    whole = text_encoders.start(config, tmp_path)
    cut = text_encoders.first_layers(whole, 1)
    assert set(whole.params["encoder"]) - set(cut.params["encoder"]) == {"block_1"}
    assert text_encoders.first_layers(whole, 0) is whole
    tokens = jnp.arange(6, 18).reshape(2, 6)
    want = whole.recipe.model.apply({"params": whole.params["encoder"]}, tokens)
    got = cut.recipe.model.apply({"params": cut.params["encoder"]}, tokens)
    np.testing.assert_allclose(got.last, want.hidden[1], atol=1e-6)
    with pytest.raises(ValueError, match=r"layers: expected 0 to 2 .* got 3"):
        text_encoders.first_layers(whole, 3)


@pytest.mark.parametrize("mapper", parallel.MAPPERS)
def test_start_on_eight_devices(mapper):
    """Sentences of different lengths: the mean is over the masked tokens of all."""
    config = text_encoders.start_config(small_config(num_steps=2))
    config.optim.update(name="sgd", learning_rate=0.1)
    batch = dict(next(text_encoders.start_batches(config, 0)))
    batch["where"] = batch["where"] & (np.arange(16) < np.arange(1, 17)[:, None])

    @functools.cache
    def one_step(mapper, devices):
        make_step = functools.partial(text_encoders.start_step, config)
        step = parallel.data_parallel(make_step, mapper, devices=devices)
        state, metrics = step(text_encoders.start_init(config), batch)
        return jax.device_get((state.params, metrics))

    want, got = one_step("jit", 1), one_step(mapper, 8)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, got, want)


def test_synthetic_pairs():
    scored = sets.synthetic_pairs(50)
    assert len(scored.first) == len(scored.second) == 50
    shared = [
        len(set(a.split()) & set(b.split()))
        for a, b in zip(scored.first, scored.second, strict=True)
    ]
    same = np.array(shared)[scored.scores == 1].mean()
    assert same > 1 + np.array(shared)[scored.scores == 0].mean()
    assert set(scored.scores) == {0, 1}


def test_token_vectors():
    """The same neighbors make like vectors; what does not occur has zeros."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, 15, size=(400, 6))
    tokens[:, 3] = np.where(tokens[:, 2] < 10, 15, 16)  # 15 follows 5 to 9
    tokens[:, 2] = np.where(tokens[:, 3] == 15, rng.integers(5, 7), tokens[:, 2])
    where = np.ones(tokens.shape, bool)
    half = tokens.copy()
    half[half == 15] = 17  # has the neighbors of 15
    both = np.concatenate([tokens, half])
    vectors = text_encoders.token_vectors(both, np.tile(where, (2, 1)), 20, 6)
    assert vectors.shape == (20, 6) and np.isfinite(vectors).all()
    assert not vectors[[0, 4, 18, 19]].any() and vectors[5:18].any(axis=1).all()
    a, b, c = (vectors[i] / np.linalg.norm(vectors[i]) for i in (15, 17, 16))
    assert a @ b > a @ c
    again = text_encoders.token_vectors(both, np.tile(where, (2, 1)), 20, 6)
    np.testing.assert_array_equal(again, vectors)

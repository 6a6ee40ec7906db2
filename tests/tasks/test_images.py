"""What image experiments share: held-out rows, and evaluation while training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import training
from contrastive_jax.data import images as sets
from contrastive_jax.tasks import images


def config(**data):
    """Digits, with a watch of all rows."""
    made = training.defaults(
        optim=dict(learning_rate=0.1), train=dict(num_steps=4, log_every=1)
    )
    made.data = images.data("digits", batch_size=8)
    made.data.update(data)
    made.watch = images.watching(every=2, rows=2000)
    made.eval = images.evaluation(k=1)
    return made


@pytest.mark.parametrize("held_out", [0.1, 0.25])
def test_held_out_rows_are_in_no_batch_and_neighbors_stay_together(held_out):
    every = sets.open_rows("digits", "train")
    kept = sets.open_rows("digits", "train", held_out=held_out)
    rest = sets.open_rows("digits", "held_out", held_out=held_out)
    assert kept.total + rest.total == every.total
    assert abs(rest.total - held_out * every.total) <= 2
    images_of = [x.read(np.arange(x.total))["image"] for x in (every, kept, rest)]
    numbers = {x.tobytes(): i for i, x in enumerate(images_of[0])}
    kept, rest = ({numbers[x.tobytes()] for x in part} for part in images_of[1:])
    assert kept.isdisjoint(rest)
    assert all(i ^ 1 in rest for i in rest)
    source = images.batches(config(held_out=held_out).data, seed=0, start_step=0)
    drawn = {numbers[x.tobytes()] for _ in range(400) for x in next(source)["image"]}
    assert drawn == kept


def test_the_split_needs_a_share():
    with pytest.raises(ValueError, match="held_out: expected above 0"):
        sets.open_rows("digits", "held_out")


def by_class(image):
    """Features that tell images apart, for want of an encoder."""
    return image.reshape(len(image), -1)


def test_watch_classifies_held_out_rows_and_sees_collapse():
    found = images.watch(config(held_out=0.2), by_class)
    train = sets.open_rows("digits", "train", held_out=0.2)
    rest = sets.open_rows("digits", "held_out", held_out=0.2)
    bank, asked = (x.read(np.arange(x.total)) for x in (train, rest))
    a, b = (x["image"].reshape(len(x["image"]), -1) / 255 for x in (asked, bank))
    cosine = (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (
        b / np.linalg.norm(b, axis=1, keepdims=True)
    ).T
    right = bank["label"][cosine.argmax(axis=1)] == asked["label"]
    assert found["knn"] == pytest.approx(100 * right.mean(), abs=0.5)
    s = np.linalg.svd(a - a.mean(axis=0), compute_uv=False)
    p = s[s > 0] / s.sum()
    want = np.exp(-np.sum(p * np.log(p)))
    assert found["effective_rank"] == pytest.approx(want, rel=1e-3)
    flat = images.watch(config(), lambda image: jnp.ones((len(image), 3)))
    assert flat["mean_cosine"] == pytest.approx(1) and flat["effective_rank"] == 1
    assert flat["knn"] < 20 < 90 < images.watch(config(), by_class)["knn"]


def test_train_each_logs_rate_and_watch(tmp_path):
    settings = config(held_out=0.1)
    settings.devices = 1

    def init(config):
        return training.TrainState(
            step=jnp.int32(0),
            rng=jax.random.key(0),
            params=jnp.ones(3),
            opt_state=(),
            model_state={},
            skipped=jnp.int32(0),
        )

    def make_step(config, axis_name=None):
        def step(state, batch):
            after = state.replace(step=state.step + 1, params=state.params * 0.5)
            return after, {"loss": jnp.mean(after.params)}

        return step

    def encode(config, state):
        scale = float(state.params[0])
        return jax.tree_util.Partial(lambda image: scale * by_class(image))

    def batches(config, start_step):
        return images.batches(config.data, seed=0, start_step=start_step)

    methods = {"slow": {}, "fast": {"optim.learning_rate": 1.0}}
    shared = (settings, tmp_path, init, make_step, batches, encode)
    trained = images.train_each(methods, *shared)
    assert list(trained) == ["slow", "fast"]
    lines = {m: training.metrics.read(tmp_path / m) for m in methods}
    for name, peak in {"slow": 0.1, "fast": 1.0}.items():
        rates = [line["learning_rate"] for line in lines[name]]
        want = [peak * (1 + np.cos(np.pi * t / 4)) / 2 for t in range(4)]
        np.testing.assert_allclose(rates, want, rtol=1e-5)
        assert ["watch/knn" in line for line in lines[name]] == [False, True] * 2
    settings.watch.every = 0
    images.train_each({"none": {}}, *shared[:1], tmp_path / "b", *shared[2:])
    assert not any("watch/knn" in x for x in training.metrics.read(tmp_path / "b/none"))

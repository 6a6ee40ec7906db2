"""Networks: published shapes and parameter counts, shared batch statistics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import models, parallel


def count(params):
    return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(params))


@pytest.mark.parametrize(
    ("depth", "parameters", "width"),
    [(18, 11_176_512, 512), (50, 23_508_032, 2048)],
)
def test_published_parameter_counts(depth, parameters, width):
    """torchvision's ResNets without their last layer have exactly these."""
    sizes, kind = models.DEPTHS[depth]
    model = models.Resnet(sizes, 64, kind, "imagenet")
    x = jnp.zeros((2, 64, 64, 3))
    out, variables = jax.eval_shape(
        lambda: model.init_with_output(jax.random.key(0), x, train=False)
    )
    assert out.shape == (2, width)
    assert count(variables["params"]) == parameters


def test_stems_and_resolutions():
    x = jnp.zeros((1, 32, 32, 3))

    def shapes(**kwargs):
        model = models.Resnet((1, 1), 8, **kwargs)
        _, state = jax.eval_shape(
            lambda: model.apply(
                model.init(jax.random.key(0), x, train=False),
                x,
                train=False,
                capture_intermediates=True,
            )
        )
        inner = state["intermediates"]
        return [inner[f"Block_{i}"]["__call__"][0].shape[1] for i in range(2)]

    assert shapes(stem="cifar") == [32, 16]
    assert shapes(stem="cifar", stem_stride=2) == [16, 8]
    assert shapes(stem="imagenet") == [8, 4]
    with pytest.raises((ValueError, TypeError), match="stem"):
        shapes(stem="vgg")


def test_grid_keeps_the_layout():
    """The mean over cells of a grid; their mean is that over all positions."""
    x = jnp.asarray(np.random.default_rng(0).uniform(size=(2, 8, 8, 1)), jnp.float32)
    whole = models.Resnet((1,), 4)
    variables = jax.jit(functools.partial(whole.init, train=False))(
        jax.random.key(0), x
    )
    cells = models.Resnet((1,), 4, grid=2).apply(variables, x, train=False)
    assert cells.shape == (2, 4 * 4)
    np.testing.assert_allclose(
        cells.reshape(2, 4, 4).mean(axis=1),
        whole.apply(variables, x, train=False),
        rtol=1e-5,
    )
    far = x.at[:, :, 4:].set(0)  # the right half does not reach the left cells' middle
    other = models.Resnet((1,), 4, grid=2).apply(variables, far, train=False)
    change = jnp.abs(other - cells).reshape(2, 2, 2, 4).mean(axis=(0, 1, 3))
    assert change[1] > 2 * change[0]
    with pytest.raises(ValueError, match="grid: 8 x 8 positions do not split by 3"):
        models.Resnet((1,), 4, grid=3).apply(variables, x, train=False)


def test_mlp_options():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(32, 5)), jnp.float32)
    head = models.Mlp((7, 3), batch_norm=True, last_batch_norm=True, last_affine=False)
    variables = head.init(jax.random.key(0), x, train=False)
    assert "bias" not in variables["params"]["Dense_0"]
    assert set(variables["params"]) == {"Dense_0", "BatchNorm_0", "Dense_1"}
    out, _ = head.apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(out.std(axis=0), 1, atol=1e-2)
    half = models.Mlp((3,), dtype=jnp.bfloat16)
    params = half.init(jax.random.key(0), x, train=False)
    assert params["params"]["Dense_0"]["kernel"].dtype == jnp.float32
    assert half.apply(params, x, train=False).dtype == jnp.bfloat16


def test_batch_statistics_are_shared_over_devices():
    x = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32) * 3 + 1

    def apply(axis_name):
        norm = models.BatchNorm(axis_name=axis_name)
        variables = norm.init(jax.random.key(0), jnp.zeros((2, 4)), train=False)

        def step(state, batch):
            out, updated = norm.apply(
                variables, batch["x"], train=True, mutable=["batch_stats"]
            )
            total = parallel.pmean(jnp.mean(out**3), axis_name)
            return state, {"cube": total, "stats": updated}

        return step

    def run(mapper, devices):
        step = parallel.data_parallel(
            lambda *, axis_name: apply(axis_name), mapper, devices=devices
        )
        return step({"zero": jnp.zeros(())}, {"x": x})[1]

    one = run("jit", 1)
    for mapper in ("pmap", "shard_map"):
        many = run(mapper, 8)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6),
            many,
            one,
        )

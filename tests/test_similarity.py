"""Values of similarity.py against scipy, and gradients where distances are 0."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, PartitionSpec
from scipy.spatial.distance import cdist

from contrastive_jax import losses, pairs, similarity

RNG = np.random.default_rng(0)
A, B = (jnp.asarray(RNG.normal(size=(n, 3)), jnp.float32) for n in (5, 4))
METRICS = {
    similarity.dot: lambda a, b: a @ b.T,
    similarity.cosine: lambda a, b: 1 - cdist(a, b, "cosine"),
    similarity.cosine_distance: lambda a, b: cdist(a, b, "cosine"),
    similarity.euclidean: lambda a, b: -cdist(a, b),
    similarity.euclidean_distance: cdist,
    similarity.squared_euclidean: lambda a, b: -cdist(a, b, "sqeuclidean"),
    similarity.squared_euclidean_distance: lambda a, b: cdist(a, b, "sqeuclidean"),
    similarity.manhattan_distance: lambda a, b: cdist(a, b, "cityblock"),
}


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)
def test_equals_scipy(metric):
    np.testing.assert_allclose(
        metric(A, B), METRICS[metric](A, B), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)
def test_equal_and_zero_rows_have_finite_gradients(metric):
    x = jnp.zeros((3, 2)).at[:2].set(1.0)
    value, grad = jax.value_and_grad(lambda x: jnp.sum(metric(x, x)))(x)
    assert np.isfinite(value) and np.isfinite(grad).all()


def test_csls_by_a_loop(transform):
    cosines = 1 - cdist(A, B, "cosine")
    want = np.empty((5, 4))
    for i in range(5):
        for j in range(4):
            row = np.mean(sorted(cosines[i])[-2:])
            column = np.mean(sorted(cosines[:, j])[-2:])
            want[i, j] = 2 * cosines[i, j] - row - column
    got = transform(lambda a, b: similarity.csls(a, b, k=2))(A, B)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="k: expected 1 to 4, got 5"):
        similarity.csls(A, B, k=5)


def test_csls_frees_neighbors_from_a_hub():
    # b_1 is near to all; each of a is nearest to it by cosine.
    a = jnp.array([[1.0, 0.5], [1.0, -0.5]])
    b = jnp.array([[1.0, 1.6], [1.0, 0.0], [1.0, -1.6]])
    assert jnp.argmax(similarity.cosine(a, b), axis=1).tolist() == [1, 1]
    assert jnp.argmax(similarity.csls(a, b, k=2), axis=1).tolist() == [0, 2]


@pytest.mark.parametrize("length", [0.0, 1e-35, 3e-23, 3e-13, 5.0, 1.85e19, 3e37])
def test_l2_normalize_of_any_length(length, transform):
    x = jnp.float32(length) * jnp.array([0.6, 0.8], jnp.float32)
    normalize = transform(similarity.l2_normalize)
    # Below the least norm of 1e-12 the rule is a division by it.
    np.testing.assert_allclose(
        normalize(x), np.array([0.6, 0.8]) * min(length / 1e-12, 1), rtol=1e-6
    )
    grad = jax.jit(jax.grad(lambda x: normalize(x)[0]))(x)
    want = 1e12 if length < 1e-12 else 0.64 / length
    np.testing.assert_allclose(grad[0], want if length else 0, rtol=1e-5)


def test_cosines_stay_in_their_range():
    x = jnp.asarray(np.random.default_rng(1).normal(size=(200, 7)), jnp.float32)
    cosines = similarity.cosine(x, jnp.concatenate([x, -x]))
    assert cosines.max() == 1 and cosines.min() == -1
    unclipped = similarity.matmul(*[similarity.l2_normalize(x)] * 2)
    assert unclipped.max() > 1, "the rows never left the range"
    distances = similarity.cosine_distance(x, jnp.concatenate([x, -x]))
    assert distances.min() == 0 and distances.max() == 2


DISTANCES = {
    similarity.euclidean_distance: ("euclidean", 1e-6),
    similarity.squared_euclidean_distance: ("sqeuclidean", 2e-6),
    similarity.manhattan_distance: ("cityblock", 1e-6),
}
every_distance = pytest.mark.parametrize(
    "metric", DISTANCES, ids=lambda metric: metric.__name__
)


@functools.cache
def weighted(metric):
    """Distances, and the gradients of their sum with random weights."""

    def of(a, b, weights):
        distances = metric(a, b)
        return jnp.sum(weights * distances), distances

    return jax.jit(jax.grad(of, argnums=(0, 1), has_aux=True))


@every_distance
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_many_rows_are_exact_also_near_0(metric, offset):
    # More rows than one tile: equal ones, near ones in every place, far ones.
    rng = np.random.default_rng(2)
    x = rng.normal(size=(70, 8))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    near = [x[:30] + 10.0 ** -rng.uniform(2, 5, (30, 1)) * rng.normal(size=(30, 8))]
    a = np.float32(x + offset)
    b = np.float32(rng.permutation(np.concatenate([x, *near, a[:3] - offset])) + offset)
    kind, rtol = DISTANCES[metric]
    weights = np.float32(rng.normal(size=(len(a), len(b))))
    grads, got = weighted(metric)(a, b, weights)
    want = cdist(np.float64(a), np.float64(b), kind)
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-30)
    assert np.sum(want == 0) > 3 and np.min(want[want > 0]) < 1e-4
    # By hand, of differences in float64; 0 between equal rows.
    steps = np.float64(a)[:, None] - np.float64(b)[None, :]
    slopes = {
        "euclidean": steps / np.where(want == 0, 1, want)[..., None],
        "sqeuclidean": 2 * steps,
        "cityblock": np.sign(steps),
    }[kind] * weights[..., None]
    for grad, axis, sign in ((grads[0], 1, 1), (grads[1], 0, -1)):
        np.testing.assert_allclose(
            grad, sign * slopes.sum(axis=axis), rtol=1e-5, atol=2e-5
        )


@every_distance
@pytest.mark.parametrize("tiles", [False, True])
def test_a_row_of_nan_reaches_its_own_distances_only(metric, tiles):
    rng, (n, m) = np.random.default_rng(3), (70, 103) if tiles else (3, 4)
    a, b = (np.float32(rng.normal(size=(k, 8))) for k in (n, m))
    b[1, 2] = np.nan
    masked = np.broadcast_to(np.float32(np.arange(m) != 1), (n, m))
    # The sum of weighted distances is NaN, since 0 * NaN is; its gradient is not.
    grads, distances = weighted(metric)(a, b, masked)
    np.testing.assert_array_equal(np.isnan(distances), masked == 0)
    b[1, 2] = 0
    want, _ = weighted(metric)(a, b, masked)
    for grad, other in zip(grads, want, strict=True):
        np.testing.assert_allclose(grad, other, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(grads[1][1], np.zeros(8))


def test_euclidean_distances_of_any_length():
    for size in (1e-30, 1.0, 3e19):
        a = jnp.float32(size) * jnp.array([[0.0, 0.0]])
        b = jnp.float32(size) * jnp.array([[3.0, 4.0]])
        distance = similarity.euclidean_distance(a, b)
        np.testing.assert_allclose(distance, [[5 * np.float32(size)]], rtol=1e-6)
        grad = jax.grad(lambda b, a=a: similarity.euclidean_distance(a, b)[0, 0])(b)
        np.testing.assert_allclose(grad, [[0.6, 0.8]], rtol=1e-6)


@every_distance
def test_half_precision_is_computed_in_float32(metric):
    x = jnp.asarray(np.random.default_rng(4).normal(size=(70, 4)), jnp.bfloat16)
    got = metric(x, x)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, metric(*[x.astype(jnp.float32)] * 2), rtol=1e-6)


def test_second_derivatives_of_a_triplet_loss():
    rng = np.random.default_rng(5)
    x, labels = rng.normal(size=(70, 1, 2)), jnp.arange(70) % 9

    def loss(scale, x, tiles):
        d = similarity.euclidean_distance(*[scale[None, :] * x[:, 0]] * 2)
        if not tiles:
            gaps = scale[None, None, :] * (x - x.swapaxes(0, 1))
            d = jnp.sqrt(jnp.sum(gaps**2, axis=-1) + 1e-20)
        same = pairs.same_label(labels) & ~jnp.eye(70, dtype=bool)
        return losses.triplet_batch_hard(d, same, where=~jnp.eye(70, dtype=bool))

    with jax.enable_x64(True):
        x, scale = jnp.asarray(x), jnp.array([1.0, 0.5])
        got, want = (
            jax.jit(jax.hessian(loss), static_argnums=2)(scale, x, tiles)
            for tiles in (True, False)
        )
    assert np.abs(want).max() > 0.1
    np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-8)


@pytest.mark.experiments
def test_distances_in_every_mapper():
    rng = np.random.default_rng(6)
    a, b = (jnp.asarray(rng.normal(size=(2, 70, 4)), jnp.float32) for _ in "ab")
    b = b.at[:, :3].set(a[:, :3])

    def of(a, b):
        return jax.value_and_grad(
            lambda a: jnp.sum(jnp.cos(similarity.euclidean_distance(a, b)))
        )(a)

    one = jax.jit(of)
    want = [jnp.stack(x) for x in zip(*map(one, a, b), strict=True)]
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",), axis_types=(AxisType.Auto,))
    spec = PartitionSpec("data")

    def local(a, b):
        return jax.tree.map(lambda x: x[None], of(a[0], b[0]))

    sharded = jax.shard_map(local, mesh=mesh, in_specs=spec, out_specs=spec)
    for run in (jax.jit(jax.vmap(of)), jax.pmap(of), jax.jit(sharded)):
        for got, wanted in zip(run(a, b), want, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


@every_distance
def test_memory_is_of_pairs_not_of_differences(metric):
    n, d = 512, 256

    def of(a, b):
        return jnp.sum(jnp.cos(metric(a, b)))

    x = jax.ShapeDtypeStruct((n, d), jnp.float32)
    program = jax.jit(jax.value_and_grad(of, argnums=(0, 1))).lower(x, x).compile()
    scratch = program.memory_analysis().temp_size_in_bytes
    assert scratch < 16 * 4 * n * n < 4 * n * n * d / 8


def test_bilinear_and_multi_head_are_einsums():
    weight = jnp.asarray(RNG.normal(size=(3, 3)), jnp.float32)
    got = similarity.bilinear(A, B, weight)
    np.testing.assert_allclose(got, A @ weight @ B.T, rtol=1e-5, atol=1e-5)
    a, b = RNG.normal(size=(5, 2, 3)), RNG.normal(size=(4, 2, 3))
    got = similarity.multi_head(
        jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32)
    )
    np.testing.assert_allclose(
        got, np.einsum("nkd,mkd->knm", a, b), rtol=1e-4, atol=1e-5
    )

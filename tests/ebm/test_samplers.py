"""Samplers: weights by hand, drawn frequencies, stationary moments in closed form."""

import functools

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import ebm, parallel, randomness

W = np.array([0.5, 0.1, 0.0, 0.4])
LOG_W = jnp.log(jnp.asarray(W, jnp.float32))
KEYS = jax.random.split(jax.random.key(0), 4000)


def close(got, want, rtol=1e-5, atol=1e-6):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=atol)


def test_weights_by_hand_at_any_scale(transform):
    run = transform(ebm.self_normalized_weights)
    for shift in (0.0, 1e4, -1e4):
        close(run(LOG_W + shift), W, rtol=2e-3)
    close(run(LOG_W, where=jnp.array([True, True, True, False])), [5 / 6, 1 / 6, 0, 0])


def test_effective_sample_size_by_hand(transform):
    run = transform(ebm.effective_sample_size)
    close(run(LOG_W), 1 / np.sum(W**2))
    close(run(jnp.full((2, 7), -3e3)), [7.0, 7.0])
    close(run(jnp.array([0.0, -1e4])), 1.0)
    close(run(jnp.array([5.0])), 1.0)  # one sample is one sample


def test_nothing_to_weigh_is_zero_without_nan():
    rows = jnp.array([[0.0, 1.0], [-jnp.inf, -jnp.inf]])
    where = jnp.array([[False, False], [True, True]])
    assert not ebm.self_normalized_weights(rows, where=where).any()
    assert not ebm.effective_sample_size(rows, where=where).any()
    for f in (ebm.self_normalized_weights, ebm.effective_sample_size):
        grad = jax.grad(lambda x, f=f: jnp.sum(f(x, where=where)))(rows)
        assert not grad.any()
        assert np.isnan(f(jnp.array([0.0, jnp.nan]))).any()


def test_bad_weights_are_refused(without_type_hooks):
    with pytest.raises(TypeError, match=r"^log_w: "):
        ebm.effective_sample_size(jnp.array([1, 2]))
    with pytest.raises(ValueError, match=r"^log_w: "):
        ebm.self_normalized_weights(jnp.zeros((2, 0)))
    with pytest.raises(ValueError, match=r"^where: "):
        ebm.self_normalized_weights(LOG_W, where=jnp.ones(3, bool))
    with pytest.raises(ValueError, match=r"^rng: "):
        ebm.gumbel_argmax(KEYS[:3], jnp.zeros((2, 4)))


def frequencies(draws, k=4):
    return np.bincount(np.asarray(draws).ravel(), minlength=k) / np.size(draws)


def test_gumbel_argmax_draws_by_weight():
    rows = jnp.broadcast_to(LOG_W - 700, (len(KEYS), 4))
    draws = ebm.gumbel_argmax(KEYS, rows)
    # Four standard errors of 4,000 draws are 0.032.
    close(frequencies(draws), W, atol=0.032)
    one_key = ebm.gumbel_argmax(KEYS[0], rows)
    close(frequencies(one_key), W, atol=0.032)
    alone = jax.vmap(ebm.gumbel_argmax)(KEYS[:9], rows[:9])
    np.testing.assert_array_equal(alone, draws[:9])
    where = jnp.broadcast_to(jnp.array([False, True, True, False]), rows.shape)
    assert set(np.unique(ebm.gumbel_argmax(KEYS, rows, where=where))) == {1}
    assert ebm.gumbel_argmax(KEYS[0], jnp.full(3, -jnp.inf)) == 0


def test_gumbel_top_n_draws_without_replacement():
    rows = jnp.broadcast_to(LOG_W, (len(KEYS), 4))
    draws = np.asarray(ebm.gumbel_top_n(KEYS, rows, 3))
    assert all(set(row) == {0, 1, 3} for row in draws)
    close(frequencies(draws[:, 0]), W, atol=0.032)
    second = draws[draws[:, 0] == 0, 1]
    close(frequencies(second), [0, 0.2, 0, 0.8], atol=0.04)
    last = np.asarray(ebm.gumbel_top_n(KEYS[:50], rows[:50], 4))[:, 3]
    assert set(last) == {2}  # weight 0 comes last
    with pytest.raises(ValueError, match=r"^n: expected 1 to 4, got 5"):
        ebm.gumbel_top_n(KEYS[0], LOG_W, 5)
    noise = randomness.gumbel(KEYS, rows.shape, rows.dtype)
    given = ebm.gumbel_top_n(None, rows, 3, noise=noise)
    np.testing.assert_array_equal(given, draws)
    for rng, given in ((None, None), (KEYS, noise)):
        with pytest.raises(ValueError, match=r"^noise: expected either a key or noise"):
            ebm.gumbel_top_n(rng, rows, 3, noise=given)


def test_systematic_resampling_copies_by_weight_to_within_one():
    samples = {"x": jnp.arange(4), "y": jnp.eye(4)}
    for key in KEYS[:20]:
        rows, info = ebm.importance_resample(key, samples, LOG_W, num=25)
        counts = np.bincount(rows["x"], minlength=4)
        assert np.all(np.abs(counts - 25 * W) < 1) and counts[2] == 0
        np.testing.assert_array_equal(rows["y"], np.eye(4)[info.indices])
    close(info.effective_sample_size, 1 / np.sum(W**2))
    close(info.largest_weight, 0.5)


def test_multinomial_resampling_draws_each_by_itself():
    rows, _ = ebm.importance_resample(
        KEYS[1], jnp.arange(4), LOG_W, num=4000, method="multinomial"
    )
    close(frequencies(rows), W, atol=0.032)
    assert not np.array_equal(np.bincount(rows), 4000 * W)


def test_resampling_of_nothing_and_of_one():
    for log_w in (jnp.full(3, -jnp.inf), jnp.array([-jnp.inf, -jnp.inf, 2.0])):
        rows, info = ebm.importance_resample(KEYS[0], jnp.arange(3), log_w, num=5)
        want = 2 if jnp.any(jnp.isfinite(log_w)) else 0
        np.testing.assert_array_equal(rows, [want] * 5)
        assert info.effective_sample_size == (want == 2)


def test_resampling_refuses_what_does_not_fit(without_type_hooks):
    run = functools.partial(ebm.importance_resample, KEYS[0])
    with pytest.raises(ValueError, match=r"^method: "):
        run(jnp.arange(4), LOG_W, num=2, method="stratified")
    with pytest.raises(ValueError, match=r"^samples\['x'\]: expected 4 rows"):
        run({"x": jnp.arange(3)}, LOG_W, num=2)
    with pytest.raises(ValueError, match=r"^num: "):
        run(jnp.arange(4), LOG_W, num=0)


@functools.partial(jax.jit, static_argnames=("num", "method"))
def resampled(key, log_w, num, method):
    rows = jnp.arange(len(log_w))
    return ebm.importance_resample(key, rows, log_w, num=num, method=method)[0]


def test_a_million_equal_weights_are_copied_once_each():
    for key in KEYS[:2]:
        rows = resampled(key, jnp.zeros(1_000_000), 1_000_000, "systematic")
        np.testing.assert_array_equal(rows, np.arange(1_000_000))


def test_resampling_of_a_million_weights_is_right_for_every_row():
    k = 1_000_000
    log_w = np.random.default_rng(0).normal(size=k).astype(np.float32)
    w = np.exp(log_w.astype(np.float64))
    want = k * w / w.sum()
    rows = resampled(KEYS[0], jnp.asarray(log_w), k, "systematic")
    counts = np.bincount(rows, minlength=k)
    assert counts.sum() == k and np.max(np.abs(counts - want)) < 1.001
    # Also along the rows: no drift of the cumulative sums.
    assert np.max(np.abs(np.cumsum(counts - want))) < 1.01
    counts = np.bincount(
        resampled(KEYS[0], jnp.asarray(log_w), k, "multinomial"), minlength=k
    )
    chi = np.sum((counts - want) ** 2 / want)
    deviation = np.sqrt(2 * k + np.sum(1 / want))
    assert abs(chi - k) < 5 * deviation
    near = counts.reshape(1000, 1000).sum(1), want.reshape(1000, 1000).sum(1)
    assert np.max(np.abs(near[0] - near[1]) / np.sqrt(near[1])) < 5


def test_rare_rows_beside_a_frequent_one():
    k = 1_000_000
    log_w = jnp.full(k, np.log(0.1 / (k - 1))).at[0].set(np.log(0.9))
    for method in ("systematic", "multinomial"):
        rows = np.asarray(resampled(KEYS[1], log_w, k, method))
        rare = rows[rows > 0]
        assert abs(len(rare) - 100_000) < 5 * np.sqrt(90_000)
        for share in (0.25, 0.5, 0.9):
            z = (np.mean(rare < share * k) - share) / np.sqrt(share * (1 - share) / 1e5)
            assert abs(z) < 5


def test_gumbel_argmax_of_a_million_weights():
    k, n = 1_000_000, 3

    @jax.jit
    def draw(key, log_w):
        return ebm.gumbel_argmax(key, jnp.broadcast_to(log_w, (n, k)))

    # An offset of all weights costs the noise no digits.
    drawn = np.asarray(draw(KEYS[2], jnp.full(k, 2.0**24)))
    assert len(set(drawn)) == n
    assert abs(np.mean(drawn / k) - 0.5) < 5 / np.sqrt(12 * n)


def gaussian(x):
    return -jnp.sum((x - 1.0) ** 2, axis=-1) / 2


def ends(**options):
    start = ebm.langevin_init(jnp.zeros((4000, 1)))
    chains, info = jax.jit(
        lambda: ebm.langevin(jax.random.key(1), start, gaussian, **options)
    )()
    return np.asarray(chains.x[:, 0]), info


def test_plain_langevin_has_the_variance_of_its_step_size():
    """x' = (1 - e) x + sqrt(2 e) z has variance 1 / (1 - e / 2), not 1."""
    x, info = ends(num_steps=60, step_size=0.5)
    close(x.mean(), 1.0, atol=0.08)  # four standard errors
    close(x.var(), 1 / (1 - 0.25), atol=0.12)
    assert np.all(np.asarray(info.accepted) == 1)


def test_adjusted_langevin_has_no_bias():
    x, info = ends(num_steps=60, step_size=0.5, adjusted=True)
    close(x.mean(), 1.0, atol=0.08)
    close(x.var(), 1.0, atol=0.09)
    assert 0.5 < info.accepted.mean() < 0.999


def test_adjusted_langevin_accepts_as_often_as_blackjax_does():
    """The same law: moments and acceptance of a narrow, tilted Gaussian in 2-D."""
    precision = jnp.linalg.inv(jnp.array([[1.0, 0.6], [0.6, 0.5]]))
    chains, steps, step_size = 4000, 40, 0.1

    def log_density(x):
        return -jnp.einsum("...i,ij,...j", x, precision, x) / 2

    kernel = blackjax.mala(log_density, step_size)
    start = jnp.zeros((chains, 2))

    def other_step(state, key):
        keys = jax.random.split(key, chains)
        state, info = jax.vmap(kernel.step)(keys, state)
        return state, jnp.mean(info.acceptance_rate)

    @jax.jit
    def both():
        other, rates = jax.lax.scan(
            other_step,
            jax.vmap(kernel.init)(start),
            jax.random.split(jax.random.key(1), steps),
        )
        ours, info = ebm.langevin(
            jax.random.key(2),
            ebm.langevin_init(start),
            log_density,
            num_steps=steps,
            step_size=step_size,
            adjusted=True,
        )
        return ours.x, jnp.mean(info.accepted), other.position, jnp.mean(rates)

    x, rate, y, other_rate = both()
    assert 0.5 < other_rate < 0.95
    close(rate, other_rate, rtol=0, atol=0.01)
    close(np.cov(x.T), np.cov(y.T), rtol=0, atol=0.08)
    close(x.mean(0), y.mean(0), rtol=0, atol=0.08)


def test_langevin_step_by_hand_with_clip_and_bounds():
    start = ebm.langevin_init(jnp.array([[5.0], [1.5]]))
    plain = dict(step_size=0.5, noise_std=0.0)
    chains, info = ebm.langevin_step(KEYS[0], start, gaussian, **plain)
    close(chains.x, [[3.0], [1.25]])
    close(info.log_density, [-8.0, -0.125])
    close(info.gradient_norm, [4.0, 0.5])
    close(info.step_norm, [2.0, 0.25])
    assert chains.step == 1
    chains, _ = ebm.langevin_step(KEYS[0], start, gaussian, **plain, clip=1.0)
    close(chains.x, [[4.5], [1.25]])
    chains, _ = ebm.langevin_step(KEYS[0], start, gaussian, **plain, bounds=(2.0, 2.5))
    close(chains.x, [[2.5], [2.0]])


def test_langevin_with_a_key_per_chain_does_not_depend_on_the_split():
    x = jnp.linspace(-1, 1, 16)[:, None, None] * jnp.ones((1, 2, 3))

    def f(x):
        def log_density(x):
            return -jnp.sum(x**2, axis=(1, 2)) / 2

        axis = "data" if len(x) == 2 else None
        keys = parallel.example_keys(jax.random.key(7), jnp.array(3), len(x), axis)
        start = ebm.langevin_init(x)
        return ebm.langevin(keys, start, log_density, num_steps=3, step_size=0.1)[0].x

    split = jax.pmap(f, "data")(x.reshape(8, 2, 2, 3)).reshape(x.shape)
    close(split, f(x))


def test_langevin_refuses_options_that_do_not_go_together():
    start = ebm.langevin_init(jnp.zeros((2, 1)))
    run = functools.partial(ebm.langevin_step, KEYS[0], start, gaussian)
    with pytest.raises(ValueError, match=r"^adjusted: "):
        run(step_size=0.1, adjusted=True, clip=1.0)
    with pytest.raises(ValueError, match=r"^step_size: "):
        run(step_size=0.0)
    with pytest.raises(ValueError, match=r"^noise_std: "):
        run(step_size=0.1, noise_std=-1.0)
    with pytest.raises(ValueError, match=r"^rng: "):
        ebm.langevin_step(KEYS[:3], start, gaussian, step_size=0.1)


def test_replay_buffer_keeps_chains_and_counts_their_age():
    buffer = ebm.replay_init(-jnp.arange(16.0)[:, None])
    fresh, rows = jnp.full((4, 1), 9.0), jnp.arange(4)
    options = dict(rows=rows, total=4)
    draw = ebm.replay_draw(KEYS[:4], buffer, fresh, **options, fresh_rate=0.0)
    np.testing.assert_array_equal(draw.slots // 4, rows)  # one block each
    np.testing.assert_array_equal(draw.x[:, 0], -np.asarray(draw.slots))
    buffer = ebm.replay_update(buffer, draw._replace(x=draw.x + 100))
    want = -np.arange(16.0)
    want[draw.slots] += 100
    np.testing.assert_array_equal(buffer.x[:, 0], want)
    assert buffer.age.sum() == 4
    again = ebm.replay_draw(KEYS[:4], buffer, fresh, **options, fresh_rate=0.0)
    np.testing.assert_array_equal(again.age, [1] * 4)
    renewed = ebm.replay_draw(KEYS[:4], buffer, fresh, **options, fresh_rate=1.0)
    np.testing.assert_array_equal(renewed.x, fresh)
    assert not renewed.age.any()
    buffer = ebm.replay_update(buffer, renewed)
    np.testing.assert_array_equal(buffer.age[renewed.slots], [1] * 4)


def test_replay_is_fresh_at_the_rate_asked_for():
    buffer = ebm.replay_init(jnp.zeros((4000, 1)))
    draw = ebm.replay_draw(
        KEYS, buffer, jnp.ones((4000, 1)), rows=jnp.arange(4000), total=4000
    )
    close(draw.x.mean(), 0.05, atol=0.014)


def test_replay_draws_every_row_where_sizes_do_not_divide():
    buffer = ebm.replay_init(jnp.arange(11.0)[:, None])
    seen = []
    for key in jax.random.split(KEYS[0], 40):
        keys = jax.random.split(key, 4)
        draw = ebm.replay_draw(
            keys, buffer, jnp.zeros((4, 1)), rows=jnp.arange(4), total=4
        )
        seen.append(np.asarray(draw.slots))
    for column, block in zip(
        np.transpose(seen), np.split(np.arange(11), [3, 6, 9]), strict=True
    ):
        np.testing.assert_array_equal(np.unique(column), block)


def test_what_is_not_finite_does_not_stay_in_the_replay_buffer():
    nan, fresh = jnp.nan, jnp.full((4, 1), 9.0)
    options = dict(rows=jnp.arange(4), total=4, fresh_rate=0.0)
    buffer = ebm.replay_init(jnp.array([[0.0], [nan], [2.0], [jnp.inf]]))
    draw = ebm.replay_draw(KEYS[:4], buffer, fresh, **options)
    assert draw.x.tolist() == [[0.0], [9.0], [2.0], [9.0]]
    ends = jnp.array([[nan], [5.0], [6.0], [-jnp.inf]])
    after = ebm.replay_update(buffer, draw._replace(x=ends))
    assert after.x.tolist() == [[0.0], [5.0], [6.0], [jnp.inf]]
    assert after.age.tolist() == [0, 1, 1, 0]


def test_replay_refuses_too_small_a_buffer():
    buffer = ebm.replay_init(jnp.zeros((3, 1)))
    run = functools.partial(ebm.replay_draw, KEYS[:4], buffer)
    with pytest.raises(ValueError, match=r"^total: expected 1 to 3"):
        run(jnp.zeros((4, 1)), rows=jnp.arange(4), total=4)
    with pytest.raises(ValueError, match=r"^fresh: expected shape \[4, 1\]"):
        run(jnp.zeros((4, 2)), rows=jnp.arange(4), total=3)

"""Values of losses/listwise.py against loops, rax and scipy."""

import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rax
import scipy.stats

from contrastive_jax import evaluation, losses

RNG = np.random.default_rng(0)
SCORES = 2 * RNG.normal(size=(4, 6))
LABELS = RNG.integers(0, 4, size=(4, 6)).astype(float)
LABELS[:, 0] = 3.0
WHERE = np.ones((4, 6), bool)
WHERE[1, 4:] = False
WHERE[3, 1:] = False

SCHEMES = ["ranknet", "ndcg1", "ndcg2", "lambdarank", "ndcg2++"]


def f32(x):
    return jnp.asarray(x, jnp.float32)


def arrays():
    return jnp.asarray(SCORES, jnp.float32), jnp.asarray(LABELS, jnp.float32)


def masked():
    return {"where": jnp.asarray(WHERE)}


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_list_softmax_equals_rax(transform):
    scores, labels = arrays()
    loss = transform(lambda s: losses.list_softmax(s, labels, **masked()))
    close(loss(scores), rax.softmax_loss(scores, labels, **masked()))


def test_listnet_by_hand():
    scores, labels = jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 2.0]])
    t, p = 1 / (1 + math.exp(2)), 1 / (1 + math.exp(-1))  # of the first item
    want = -t * math.log(p) - (1 - t) * math.log(1 - p)
    close(losses.listnet(scores, labels), want)


def test_listnet_equals_rax_on_the_softmax_of_the_labels():
    scores, labels = arrays()
    top = jax.nn.softmax(labels, axis=1, where=masked()["where"])
    close(
        losses.listnet(scores, labels, **masked()),
        rax.softmax_loss(scores, top, **masked()),
    )


def test_listwise_kl_is_listnet_less_the_entropy_of_the_labels():
    scores, labels = arrays()
    for i in range(4):
        t = scipy.special.softmax(LABELS[i, WHERE[i]])
        p = scipy.special.softmax(SCORES[i, WHERE[i]])
        got = losses.listwise_kl(scores, labels, **masked(), reduce_fn=None)[i]
        close(got, scipy.stats.entropy(t, p))
    gradients = [
        jax.grad(loss)(scores, labels) for loss in (losses.listnet, losses.listwise_kl)
    ]
    close(*gradients)


def ideal(labels):
    gains = sorted((2**y - 1 for y in labels), reverse=True)
    return sum(g / math.log2(2 + r) for r, g in enumerate(gains))


def test_approx_ndcg_equals_a_loop():
    want = []
    for s, y, w in zip(SCORES, LABELS, WHERE, strict=True):
        s, y, total = s[w], y[w], 0.0
        for j in range(len(s)):
            behind = (1 / (1 + math.exp(s[j] - s[k])) for k in range(len(s)) if k != j)
            total += (2 ** y[j] - 1) / math.log2(2 + sum(behind))
        want.append(-total / ideal(y))
    got = losses.approx_ndcg(*arrays(), **masked(), reduce_fn=None)
    close(got, want)


def test_approx_ndcg_tends_to_ndcg():
    scores, labels = arrays()
    got = losses.approx_ndcg(1000 * scores, labels, **masked())
    close(got, -rax.ndcg_metric(scores, labels, **masked()))


def test_lists_without_relevant_items_drop_out():
    scores, labels = arrays()
    labels = labels.at[0].set(0)
    for loss in (losses.approx_ndcg, losses.lambda_loss):
        each = loss(scores, labels, reduce_fn=None)
        assert each[0] == 0
        close(loss(scores, labels), np.sum(each) / 3)


def discount(rank):
    return math.log2(1 + rank)


def weight(scheme, ranks, gains, i, j):
    """The weight of the ordered pair i, j, written as in the papers."""
    change = abs(gains[i] - gains[j])
    if scheme == "ranknet":
        return 1.0
    if scheme == "ndcg1":
        return gains[i] / discount(ranks[i])
    by_rank = abs(1 / discount(ranks[i]) - 1 / discount(ranks[j])) * change
    apart = abs(ranks[i] - ranks[j])
    by_gap = 0.0
    if apart:
        by_gap = abs(1 / discount(apart) - 1 / discount(apart + 1)) * change
    return {
        "lambdarank": by_rank,
        "ndcg2": by_gap,
        "ndcg2++": 5 * by_gap + by_rank,
    }[scheme]


@pytest.mark.parametrize("k", [None, 3])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_lambda_loss_equals_a_loop(scheme, k):
    each, count = [], 0
    for s, y, w in zip(SCORES, LABELS, WHERE, strict=True):
        s, y, total = s[w], y[w], 0.0
        ranks = [1 + sum(s > value) for value in s]
        best = sorted(y, reverse=True)[:k]
        gains = [(2**value - 1) / ideal(best) for value in y]
        for i in range(len(s)):
            for j in range(len(s)):
                inside = k is None or (ranks[i] <= k and ranks[j] <= k)
                if inside and (scheme == "ndcg1" or y[i] > y[j]):
                    cost = math.log2(1 + math.exp(s[j] - s[i]))
                    total += weight(scheme, ranks, gains, i, j) * cost
                    count += 1
        each.append(total)
    options = dict(scheme=scheme, k=k, mu=5.0)
    got = losses.lambda_loss(*arrays(), **masked(), **options, reduce_fn=None)
    close(got, each)
    got = losses.lambda_loss(*arrays(), **masked(), **options, over="pairs")
    close(got, np.sum(each) / count)


def test_ranknet_equals_rax():
    scores, labels = arrays()
    got = losses.lambda_loss(scores, labels, scheme="ranknet", reduce_fn=jnp.sum)
    want = rax.pairwise_logistic_loss(scores, labels, reduce_fn=jnp.sum)
    close(got * math.log(2), want)


def test_ranknet_weighted_by_the_labels_by_hand():
    scores, labels = jnp.array([[0.0, 1.0, 0.0]]), jnp.array([[3.0, 1.0, 0.0]])
    # Pairs (0, 1), (0, 2) and (1, 2), with score gaps -1, 0 and 1.
    costs = np.log1p(np.exp([1.0, 0.0, -1.0]))
    options = dict(over="pairs", unit="nats")
    got = losses.lambda_loss(scores, labels, scheme="ranknet_gap", **options)
    close(got, costs @ [2, 3, 1] / 3)
    got = losses.lambda_loss(scores, labels, scheme="ranknet_square", **options)
    close(got, costs @ [8, 9, 1] / 3)
    got = losses.lambda_loss(scores, labels, scheme="ranknet", over="pairs")
    close(got, costs.mean() / math.log(2))


def test_lambdarank_weights_equal_rax():
    scores, labels = arrays()

    def weights(*args, **kwargs):
        return rax.dcg_lambdaweight(*args, **kwargs, normalize=True)

    # rax weighs each pair with the number of items, and in nats.
    want = rax.pairwise_logistic_loss(
        scores, labels, lambdaweight_fn=weights, reduce_fn=jnp.sum
    )
    got = losses.lambda_loss(scores, labels, scheme="lambdarank", reduce_fn=jnp.sum)
    close(got * math.log(2) * 6, want)


def test_labels_of_any_size_are_finite():
    scores, labels = arrays()
    for loss in (losses.approx_ndcg, losses.lambda_loss):
        assert np.isfinite(loss(scores, 1000 * labels))


def test_wasserstein_equals_scipy():
    targets = RNG.normal(size=(4, 6))
    scores = jnp.asarray(SCORES, jnp.float32)
    got = losses.wasserstein(
        scores, jnp.asarray(targets, jnp.float32), **masked(), reduce_fn=None
    )
    want = [
        scipy.stats.wasserstein_distance(SCORES[i, w], targets[i, w])
        for i, w in enumerate(WHERE)
    ]
    close(got, want)


def test_wasserstein_squared_by_hand():
    values, targets = jnp.array([[3.0, 0.0, 1.0]]), jnp.array([[1.0, 2.0, 5.0]])
    # sorted: 0 1 3 against 1 2 5
    close(losses.wasserstein(values, targets, power=2.0), (1 + 1 + 4) / 3)


@pytest.mark.parametrize(
    "options", [{"scheme": "best"}, {"k": 0}, {"over": "items"}, {"unit": "hartleys"}]
)
def test_bad_options_are_named(options):
    (name,) = options
    # Without the type hooks of the test run, which would speak first.
    with pytest.raises(ValueError, match=f"^{name}: "):
        inspect.unwrap(losses.lambda_loss)(*arrays(), **options)


def test_wasserstein_needs_a_power_of_at_least_one():
    with pytest.raises(ValueError, match=r"^power: "):
        losses.wasserstein(*arrays(), power=0.5)


def test_list_mle_equals_a_loop_over_what_is_left():
    s, y = RNG.normal(size=5), np.array([1.0, 3.0, 0.0, 2.0, 9.0])
    where = np.array([True, True, True, True, False])
    want, left = 0.0, [1, 3, 0, 2]
    while left:
        want += np.log(np.sum(np.exp(s[left]))) - s[left[0]]
        left = left[1:]
    got = losses.list_mle(f32(s[None]), f32(y[None]), where=jnp.asarray(where[None]))
    close(got, want)


def test_list_mle_takes_an_order_of_equal_labels():
    s, y = f32(RNG.normal(size=(1, 3))), f32([[1.0, 1.0, 0.0]])
    first, second = jnp.array([[0, 1, 2]]), jnp.array([[1, 0, 2]])
    assert losses.list_mle(s, y, order=first) == losses.list_mle(s, y)
    swapped = losses.list_mle(s[:, jnp.array([1, 0, 2])], y)
    close(losses.list_mle(s, y, order=second), swapped)


def test_neural_ndcg_of_a_sharp_sort_is_ndcg():
    s, y = RNG.normal(size=(3, 5)), np.round(RNG.uniform(0, 3, size=(3, 5)))
    y[:, 0] = 1.0
    for k in (None, 2):
        got = losses.neural_ndcg(f32(s), f32(y), temperature=1e-3, k=k)
        close(got, -evaluation.ndcg(f32(s), f32(y), k=k))


def test_gaussian_wasserstein_equals_the_trace_of_a_root():
    x, y = RNG.normal(size=(9, 3)), RNG.normal(size=(9, 3)) + 1.0
    cov_x, cov_y = np.cov(x.T), np.cov(y.T)
    values, vectors = np.linalg.eigh(cov_x)
    root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_y @ root)).sum()
    apart = np.sum((x.mean(0) - y.mean(0)) ** 2)
    want = apart + np.trace(cov_x + cov_y) - 2 * cross
    np.testing.assert_allclose(
        losses.gaussian_wasserstein(f32(x), f32(y)), want, rtol=1e-5
    )


def test_extended_lists_have_their_labels_in_their_own_block():
    got = losses.extend_lists(f32([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    want = np.zeros((3, 6))
    want[0, :2], want[1, 2:4], want[2, 4:] = [1, 2], [3, 4], [5, 6]
    np.testing.assert_array_equal(got, want)
    # What one list lacks does not spread to others.
    got = losses.extend_lists(f32([[np.nan, 2.0], [3.0, 4.0]]))
    np.testing.assert_array_equal(np.isnan(got), [[1, 0, 0, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize("row", [[0, 0, 2], [0, 1, 3], [-1, 1, 2]])
def test_an_order_that_is_no_permutation_raises_or_drops_the_list(row):
    s, y = f32(RNG.normal(size=(2, 3))), f32([[1.0, 1.0, 0.0]] * 2)
    order = jnp.array([[1, 0, 2], row])
    with pytest.raises(ValueError, match=r"^order: "):
        losses.list_mle(s, y, order=order)
    run = jax.jit(
        jax.value_and_grad(lambda s, order: losses.list_mle(s, y, order=order))
    )
    value, grads = run(s, order)
    close(value, losses.list_mle(s[:1], y[:1], order=order[:1]))
    assert not grads[1].any() and grads[0].any()


def test_gaussian_wasserstein_far_from_the_origin():
    x, y = (np.round(RNG.normal(size=(9, 3)) * 8) for _ in range(2))
    want = losses.gaussian_wasserstein(f32(x), f32(y))
    close(losses.gaussian_wasserstein(f32(x + 1e7), f32(y + 1e7)), want)

"""In-batch losses: the arithmetic by hand, and what equals what."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from contrastive_jax import losses, pairs, similarity

LOGITS = jnp.array([[2.0, 0.0, -1.0], [0.5, 1.0, 3.0]])
E = np.exp


def rng_normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def views(n=5, d=4):
    """Scores between all rows of two views, the columns of the positives, others."""
    z = rng_normal(2 * n, d)
    labels = jnp.concatenate([jnp.arange(n) + n, jnp.arange(n)])
    return similarity.cosine(z, z) / 0.5, labels, ~jnp.eye(2 * n, dtype=bool)


def close(got, want, rtol=1e-5):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-6)


def test_info_nce_by_hand(transform):
    got = transform(lambda x: losses.info_nce(x, reduce_fn=None))(LOGITS)
    first = np.log(E(2) + E(0) + E(-1)) - 2
    second = np.log(E(0.5) + E(1) + E(3)) - 1
    close(got, [first, second])


def test_info_nce_equals_optax():
    labels = jnp.array([2, 0])
    want = optax.softmax_cross_entropy_with_integer_labels(LOGITS, labels)
    close(losses.info_nce(LOGITS, labels, reduce_fn=None), want)


def test_info_nce_margin_is_taken_off_the_positive():
    got = losses.info_nce(LOGITS, margin=0.5, reduce_fn=None)
    close(got[0], np.log(E(1.5) + E(0) + E(-1)) - 1.5)


def test_info_nce_label_smoothing_equals_optax():
    targets = optax.smooth_labels(jax.nn.one_hot(jnp.array([2, 0]), 3), 0.3)
    want = optax.softmax_cross_entropy(LOGITS, targets)
    got = losses.info_nce(
        LOGITS, jnp.array([2, 0]), label_smoothing=0.3, reduce_fn=None
    )
    close(got, want)


def test_info_nce_smooths_over_candidates_that_count_only():
    where = jnp.array([[True, True, False]] * 2)
    got = losses.info_nce(LOGITS, where=where, label_smoothing=0.3, reduce_fn=None)
    close(got, losses.info_nce(LOGITS[:, :2], label_smoothing=0.3, reduce_fn=None))


def test_info_nce_log_weights_weigh_negatives_only():
    log_weights = jnp.log(jnp.array([[7.0, 2.0, 3.0]] * 2))
    got = losses.info_nce(LOGITS, log_weights=log_weights, reduce_fn=None)
    close(got[0], np.log(E(2) + 2 * E(0) + 3 * E(-1)) - 2)
    close(got[1], np.log(7 * E(0.5) + E(1) + 3 * E(3)) - 1)


def test_info_nce_of_a_saturated_row_keeps_its_digits():
    close(losses.info_nce(jnp.array([[40.0, 0.0]])), E(-40.0))


def test_info_nce_needs_labels_for_few_candidates():
    with pytest.raises(ValueError, match=r"^labels: needed"):
        losses.info_nce(LOGITS.T)


def test_two_way_is_the_average_of_both_directions():
    logits = rng_normal(4, 4)
    both = losses.info_nce(logits) + losses.info_nce(logits.T)
    close(losses.two_way_info_nce(logits), both / 2)


def test_two_way_takes_hard_negatives_on_one_side():
    logits, reverse = rng_normal(3, 7), rng_normal(3, 3, seed=1)
    got = losses.two_way_info_nce(logits, reverse_logits=reverse)
    close(got, (losses.info_nce(logits) + losses.info_nce(reverse)) / 2)


def test_all_direction_by_hand():
    across = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    queries, documents = jnp.array([[9.0, 5], [5, 9]]), jnp.array([[9.0, 6], [6, 9]])
    got = losses.all_direction_info_nce(
        across, query_logits=queries, document_logits=documents, reduce_fn=None
    )
    # Query to documents, document to queries, query to the other query, document to the
    # other document.
    first = np.log(E(1) + E(2) + E(1) + E(3) + E(5) + E(6)) - 1
    second = np.log(E(3) + E(4) + E(2) + E(4) + E(5) + E(6)) - 4
    close(got, [first, second])
    got = losses.all_direction_info_nce(
        across,
        query_logits=queries,
        document_logits=documents,
        repeat_positive=False,
        reduce_fn=jnp.sum,
    )
    less = np.log(E(first + 1) - E(1)) - 1 + np.log(E(second + 4) - E(4)) - 4
    close(got, less)


def test_nt_xent_by_hand():
    # Views (a1, a2, b1, b2); the positive of a1 is b1.
    logits = jnp.array([[9.0, 1, 2, 3], [1, 9, 4, 5], [2, 4, 9, 6], [3, 5, 6, 9]])
    got = losses.nt_xent(logits, reduce_fn=None)
    close(got[0], np.log(E(1) + E(2) + E(3)) - 2)
    close(got[3], np.log(E(3) + E(5) + E(6)) - 5)


def test_nt_xent_equals_optax():
    z, labels = rng_normal(6, 4), jnp.array([0, 1, 2, 0, 1, 2])
    want = optax.losses.ntxent(z, labels, temperature=0.3)
    close(losses.nt_xent(similarity.cosine(z, z) / 0.3), want)


def test_nt_xent_is_supervised_contrastive_with_the_example_as_label():
    logits, _, others = views()
    labels = jnp.tile(jnp.arange(5), 2)
    positives = pairs.same_label(labels) & others
    want = losses.supervised_contrastive(logits, positives, where=others)
    close(losses.nt_xent(logits), want)


def test_decoupled_by_hand():
    got = losses.decoupled_info_nce(LOGITS, reduce_fn=None)
    close(got, [np.log(E(0) + E(-1)) - 2, np.log(E(0.5) + E(3)) - 1])
    weights = jnp.array([0.5, 2.0])
    got = losses.decoupled_info_nce(LOGITS, positive_weights=weights, reduce_fn=None)
    close(got, [np.log(E(0) + E(-1)) - 0.5 * 2, np.log(E(0.5) + E(3)) - 2 * 1])


def test_decoupled_without_negatives_is_zero():
    assert losses.decoupled_info_nce(jnp.array([[3.0]])) == 0


def test_decoupled_weights_by_hand():
    got = losses.decoupled_weights(jnp.array([0.2, 0.6]), sigma=0.4)
    share = E(0.6 / 0.4) / (E(0.2 / 0.4) + E(0.6 / 0.4))
    close(got, [2 - 2 * (1 - share), 2 - 2 * share])


def test_debiased_by_hand():
    logits = jnp.array([[1.0, 0.5, -0.5]])
    got = losses.debiased_info_nce(logits, class_prior=0.2, temperature=0.5)
    mass = (E(0.5) + E(-0.5) - 2 * 0.2 * E(1)) / 0.8
    assert mass > 2 * E(-1 / 0.5)
    close(got, -np.log(E(1) / (E(1) + mass)))


def test_debiased_is_bounded_below():
    logits = jnp.array([[1.0, 0.5, -0.5]])
    got = losses.debiased_info_nce(logits, class_prior=0.8, temperature=0.5)
    assert (E(0.5) + E(-0.5) - 2 * 0.8 * E(1)) / 0.2 < 2 * E(-2)
    close(got, np.log1p(2 * E(-2) / E(1)))


def test_hard_negative_by_hand():
    logits = jnp.array([[1.0, 0.5, -0.5]])
    got = losses.hard_negative_info_nce(
        logits, beta=2.0, class_prior=0.1, temperature=0.5
    )
    importance = np.array([E(2 * 0.5), E(2 * -0.5)])
    importance = importance / importance.mean()
    mass = (importance @ np.array([E(0.5), E(-0.5)]) - 2 * 0.1 * E(1)) / 0.9
    close(got, np.log1p(mass / E(1)))


def test_hard_negative_without_weights_and_prior_is_nt_xent():
    logits, labels, where = views()
    options = dict(class_prior=0.0, temperature=0.5, where=where)
    got = losses.hard_negative_info_nce(logits, labels, beta=0.0, **options)
    close(got, losses.nt_xent(logits))
    hard = losses.hard_negative_info_nce(logits, labels, beta=1.0, **options)
    assert hard > got + 0.01


def test_hard_negative_weights_may_be_constant():
    logits, labels, where = views()

    def loss(logits, constant):
        return losses.hard_negative_info_nce(
            logits, labels, where=where, constant_weights=constant
        )

    close(loss(logits, True), loss(logits, False))
    grads = [jax.grad(loss)(logits, constant) for constant in (True, False)]
    assert np.abs(grads[0] - grads[1]).max() > 1e-3


def test_debiased_is_finite_where_exponentials_overflow():
    value, grad = jax.value_and_grad(losses.debiased_info_nce)(
        jnp.array([[100.0, 99.0, -5]])
    )
    assert np.isfinite(value) and np.isfinite(grad).all()


def test_soft_targets_by_hand_and_equal_to_optax():
    targets = jnp.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    got = losses.soft_target_cross_entropy(LOGITS, targets, reduce_fn=None)
    total = np.log(E(2) + E(0) + E(-1))
    close(got[0], total - (0.2 * 2 + 0.3 * 0 + 0.5 * -1))
    close(got, optax.softmax_cross_entropy(LOGITS, targets))


def test_sigmoid_by_hand_and_equal_to_optax():
    logits = jnp.array([[1.0, -2.0], [0.5, 3.0]])
    want = [
        np.log1p(E(-1)) + np.log1p(E(-2)),
        np.log1p(E(0.5)) + np.log1p(E(-3)),
    ]
    got = losses.pairwise_sigmoid(logits, reduce_fn=None)
    close(got, want)
    optaxed = optax.sigmoid_binary_cross_entropy(logits, jnp.eye(2))
    close(got, optaxed.sum(axis=1))


@pytest.mark.parametrize(
    ("loss", "option"),
    [
        (losses.info_nce, {"label_smoothing": 1.5}),
        (losses.debiased_info_nce, {"class_prior": -0.1}),
        (losses.debiased_info_nce, {"class_prior": 1.0}),
        (losses.debiased_info_nce, {"temperature": 0.0}),
        (losses.hard_negative_info_nce, {"beta": -1.0}),
    ],
)
def test_numbers_out_of_range_are_named(loss, option):
    with pytest.raises(ValueError, match=rf"^{next(iter(option))}: expected"):
        loss(LOGITS, **option)


def test_schedules_of_all_numbers_may_be_traced_and_have_gradients():
    def loss(numbers):
        return losses.info_nce(LOGITS, **numbers)

    numbers = {"margin": 0.5, "label_smoothing": 0.3}
    value, grads = jax.jit(jax.value_and_grad(loss))(numbers)
    close(value, loss(numbers))
    for name, x in numbers.items():
        step = 1e-2
        ends = [loss({**numbers, name: x + sign * step}) for sign in (1, -1)]
        close(grads[name], (ends[0] - ends[1]) / (2 * step), rtol=1e-3)


def test_a_margin_by_class_is_that_of_the_label(without_type_hooks):
    labels, margins = jnp.array([2, 0]), jnp.array([0.5, 9.0, 0.1])
    got = losses.info_nce(LOGITS, labels, margin=margins, reduce_fn=None)
    want = [
        losses.info_nce(LOGITS, labels, margin=m, reduce_fn=None)[i]
        for i, m in enumerate((0.1, 0.5))
    ]
    close(got, want)
    with pytest.raises(ValueError, match=r"^margin: "):
        losses.info_nce(LOGITS, labels, margin=jnp.ones(4))


def test_small_log_weights_are_seen_beside_a_large_offset():
    log_weights = jnp.array([[0.0, 0.3, 0.2], [0.1, 0.0, 0.4]])
    want = losses.info_nce(2 * LOGITS, log_weights=log_weights)
    close(losses.info_nce(2 * LOGITS + 2.0**22, log_weights=log_weights), want)


def test_a_weight_of_zero_is_as_if_absent():
    log_weights = jnp.full((2, 3), -jnp.inf).at[0, 1].set(0.0)
    value, grads = jax.value_and_grad(
        lambda x: losses.info_nce(x, log_weights=log_weights, label_smoothing=0.1)
    )(LOGITS)
    first = losses.info_nce(LOGITS[:1, :2], label_smoothing=0.1)
    close(value, first / 2)  # the second row has nothing left but its positive
    assert np.isfinite(grads).all() and not grads[1].any()


@pytest.mark.parametrize("label", [-1, 2, 3, 9])
def test_a_traced_label_that_is_no_column_is_none_of_the_other_direction(label):
    # Column 2 or 3 exists only in the reverse scores, or in the blocks beside.
    x, reverse = rng_normal(2, 2), rng_normal(2, 4, seed=1)
    labels, weights = jnp.array([1, label]), jnp.array([1.0, 0.0])

    def two_way(x, reverse, labels, weights=None):
        options = dict(reverse_logits=reverse, weights=weights)
        return losses.two_way_info_nce(x, labels, **options)

    def all_directions(x, reverse, labels, weights=None):
        blocks = dict(query_logits=reverse[:, :2], document_logits=reverse[:, 2:])
        return losses.all_direction_info_nce(x, labels, **blocks, weights=weights)

    for loss in (two_way, all_directions):
        run = jax.jit(jax.value_and_grad(loss, (0, 1)))
        got = run(x, reverse, labels)
        want = run(x, reverse, labels.at[1].set(0), weights)
        jax.tree.map(close, got, want)
        with pytest.raises(ValueError, match=r"^labels: "):
            loss(x, reverse, labels)


def test_rows_that_drop_out_leave_no_trace():
    bad = LOGITS.at[1].set(jnp.nan)
    for loss in (
        losses.info_nce,
        losses.decoupled_info_nce,
        losses.hard_negative_info_nce,
    ):
        run = jax.jit(jax.value_and_grad(loss))
        got = run(bad, jnp.array([0, -1]))
        want = run(LOGITS[:1], jnp.array([0]))
        close(got[0], want[0])
        close(got[1][:1], want[1])
        assert not got[1][1].any()


@pytest.mark.parametrize("shape", [(8, 4), (6, 3), (4, 5)])
def test_embeddings_in_place_of_scores_raise_also_when_traced(shape):
    with pytest.raises(ValueError, match=r"^(labels|logits): "):
        jax.jit(losses.nt_xent)(jnp.zeros(shape))


def test_nearest_positives_are_rows_of_the_support(transform):
    queries, support = rng_normal(4, 3), 5 * rng_normal(6, 3, seed=1)
    where = jnp.arange(6) < 5
    got = transform(losses.nearest_positives)(queries, support, where=where)
    a, b = (np.asarray(x, np.float64) for x in (queries, support))
    cosines = a @ b.T / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)
    chosen = np.argmax(np.where(where, cosines, -2), axis=1)
    assert np.argmax(cosines, axis=1).tolist() != chosen.tolist()
    np.testing.assert_array_equal(got, support[chosen])
    nothing = losses.nearest_positives(queries, support, where=~(where | True))
    np.testing.assert_array_equal(nothing, queries)
    bad = support.at[5].set(jnp.nan)
    np.testing.assert_array_equal(
        losses.nearest_positives(queries, bad, where=where), got
    )

    def loss(x):
        positives = losses.nearest_positives(x, support)
        return jnp.sum(similarity.dot(positives, x))

    near = losses.nearest_positives(queries, support)
    want = jnp.broadcast_to(jnp.sum(near, axis=0), (4, 3))
    close(jax.grad(loss)(queries), want)  # none through the choice


def test_matryoshka_sums_the_loss_over_prefixes(without_type_hooks):
    a, b = rng_normal(3, 4), rng_normal(3, 4, seed=1)

    def loss(a, b):
        return losses.info_nce(similarity.cosine(a, b) / 0.1)

    got = losses.matryoshka(loss, a, b, sizes=(2, 4), weights=(0.5, 2.0))
    close(got, 0.5 * loss(a[:, :2], b[:, :2]) + 2 * loss(a, b))
    for options in ({"sizes": ()}, {"sizes": (5,)}, {"sizes": (0,)}):
        with pytest.raises(ValueError, match=r"^sizes: "):
            losses.matryoshka(loss, a, b, **options)
    with pytest.raises(ValueError, match=r"^weights: "):
        losses.matryoshka(loss, a, b, sizes=(2,), weights=(1.0, 1.0))


def test_a_clipped_temperature_returns_and_does_not_drift(transform):
    grad = transform(
        jax.value_and_grad(lambda x, sign: sign * losses.clip_temperature(x, 0.0, 4.6))
    )
    x = 4.5
    for _ in range(100):  # pushed out
        x = x - 0.1 * grad(x, -1.0)[1]
    assert 4.6 <= x < 4.7 and grad(x, 1.0)[0] == np.float32(4.6)
    for _ in range(4):  # and called back
        x = x - 0.1 * grad(x, 1.0)[1]
    close(grad(x, 1.0)[0], x)
    assert x < 4.4
    close(grad(-3.0, -1.0), (0.0, -1.0))
    close(grad(-3.0, 1.0), (0.0, 0.0))
    with pytest.raises(ValueError, match=r"^low: "):
        losses.clip_temperature(jnp.ones(()), 2.0, 1.0)

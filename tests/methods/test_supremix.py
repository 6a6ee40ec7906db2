"""SupReMix: mixtures by hand, the loss over them row by row, its limits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import losses, pairs, similarity
from contrastive_jax.methods import supremix
from tests.losses.cases import Case, unit


def anchored(rng, n):
    """Anchors 1 to n of n + 2 candidates; the last one is of no anchor's label."""
    z, labels = unit(rng.normal(size=(n + 2, 3))), np.arange(n + 2) // 2 + 0.0
    gaps = labels[None, :] - labels[1 : n + 1, None]
    return {
        "anchors": z[1 : n + 1],
        "candidates": z,
        "gaps": gaps,
        "lam": rng.uniform(size=(n, n + 2)),
        "rows": 1 + np.arange(n),
    }


def gathered(a, b, gather, rows):
    """Two views of every row; labels in pairs."""
    z, labels = jnp.concatenate([gather(a), gather(b)]), gather(rows) // 2
    gaps = jnp.tile(labels[None, :] - rows[:, None] // 2, (1, 2))
    return {
        "anchors": a,
        "candidates": z,
        "gaps": gaps.astype(z.dtype),
        "lam": jax.nn.sigmoid(gaps * 0.3 + rows[:, None]).astype(z.dtype),
        "rows": rows,
    }


CASES = {
    "supremix": Case(
        supremix.supremix,
        {
            "anchors": "n d",
            "candidates": "m d",
            "gaps": "n m",
            "lam": "n m",
            "rows": "n",
        },
        anchored,
        ("anchors", "candidates"),
        options={
            "window": 2.5,
            "temperature": 0.5,
            "stop_mixtures": False,  # else the gradient is not that of the value
        },
        columns=("rows",),
        large=1e2,
        without_positives=lambda inputs: {
            **inputs,
            "gaps": np.abs(inputs["gaps"]) + 1,
        },
        gathered=gathered,
        corners=(
            {"mix_positives": False},
            {"weight": "inverse_square"},
            {"stop_mixtures": True},
            {"parts": 1},
        ),
    ),
}
HELPERS = (
    "Mixtures",
    "label_distance_weight",
    "mixing_shares",
    "supremix_mixtures",
)

RNG = np.random.default_rng(0)
N = 7
Z = jnp.asarray(unit(RNG.normal(size=(N, 4))), jnp.float32)
LABELS = jnp.asarray([0.0, 0.0, 1.0, 1.5, 2.0, 4.0, 9.0])
GAPS = LABELS[None, :] - LABELS[:, None]
LAM = jnp.asarray(RNG.uniform(size=(N, N)), jnp.float32)


def by_hand(z, labels, lam, *, window, temperature, negatives=True, positives=True):
    """The loss of every anchor, mixture by mixture; NaN where none is a positive."""
    out = []
    for i in range(len(z)):
        terms, total = [], 0.0
        for j in range(len(z)):
            score = z[i] @ z[j] / temperature
            if j != i:
                total += (abs(labels[j] - labels[i]) + 1) * np.exp(score)
                terms += [score] if labels[j] == labels[i] else []
            if negatives and labels[j] != labels[i]:
                mixed = lam[i, j] * z[i] + (1 - lam[i, j]) * z[j]
                label = lam[i, j] * labels[i] + (1 - lam[i, j]) * labels[j]
                weight = abs(label - labels[i]) + 1
                total += weight * np.exp(z[i] @ mixed / temperature)
            for k in range(len(z)) if positives else ():
                low, high = labels[i] - labels[j], labels[k] - labels[i]
                if 0 < low < window and 0 < high < window:
                    alpha = high / (low + high)
                    mixed = alpha * z[j] + (1 - alpha) * z[k]
                    terms.append(z[i] @ mixed / temperature)
                    total += np.exp(terms[-1])
        out.append(np.log(total) - np.mean(terms) if terms else np.nan)
    return np.array(out)


@pytest.mark.parametrize("negatives", [True, False])
@pytest.mark.parametrize("positives", [True, False])
def test_every_anchor_by_hand(negatives, positives):
    options = dict(window=2.0, temperature=0.4)
    want = by_hand(
        *(np.asarray(x, float) for x in (Z, LABELS, LAM)),
        **options,
        negatives=negatives,
        positives=positives,
    )
    f = functools.partial(supremix.supremix, reduce_fn=None, **options)
    got = jax.jit(
        functools.partial(f, mix_negatives=negatives, mix_positives=positives)
    )(Z, Z, GAPS, lam=LAM)
    # An anchor without any positive counts 0: without mixtures all but two, and the
    # greatest label always.
    assert np.isnan(want).sum() == (1 + positives == 1) * 5 or np.isnan(want[-1])
    np.testing.assert_allclose(got, np.nan_to_num(want), rtol=1e-5, atol=1e-6)


def test_mixtures_lie_where_their_labels_say(transform):
    f = transform(functools.partial(supremix.supremix_mixtures, window=2.0))
    found = f(Z, LABELS, LAM)
    kind, labels = np.asarray(found.kind), np.asarray(found.labels)
    i, j, k = np.nonzero(kind == 1)
    assert len(i) and (LABELS[j] < LABELS[i]).all() and (LABELS[i] < LABELS[k]).all()
    np.testing.assert_allclose(labels[i, j, k], LABELS[i], atol=1e-6)
    i, j, k = np.nonzero(kind == 0)
    assert (i == j).all() and len(i) == np.sum(np.asarray(GAPS) != 0)
    want = LAM[i, k, None] * Z[i] + (1 - LAM[i, k, None]) * Z[k]
    np.testing.assert_allclose(found.embeddings[i, j, k], want, atol=1e-6)
    assert not np.any(np.asarray(found.embeddings)[kind < 0])


def test_gradients_reach_mixtures_through_the_anchor_alone():
    """As those of the loss over mixtures that were built and are constants."""
    options = dict(lam=LAM, window=2.0)
    explicit = supremix.supremix_mixtures(Z, LABELS, **options)

    def of_mixtures(z):
        mixed = jnp.einsum("ijkd,id->ijk", explicit.embeddings, z).reshape(N, -1)
        kind = explicit.kind.reshape(N, -1)
        gaps = jnp.concatenate(
            [GAPS, explicit.labels.reshape(N, -1) - LABELS[:, None]], axis=1
        )
        return losses.weighted_supervised_contrastive(
            jnp.concatenate([similarity.dot(z, z), mixed], axis=1) / 0.5,
            jnp.concatenate([GAPS == 0, kind == 1], axis=1),
            jnp.abs(gaps) + 1,
            where=jnp.concatenate([~jnp.eye(N, dtype=bool), kind >= 0], axis=1),
        )

    got = jax.jit(
        jax.value_and_grad(lambda z: supremix.supremix(z, z, GAPS, **options))
    )(Z)
    want = jax.jit(jax.value_and_grad(of_mixtures))(Z)
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-6)


def test_few_parts_are_those_of_the_nearest_labels():
    """Of one on each side all but one row is as if outside of a smaller window."""
    labels = jnp.asarray([0.0, 1.0, 3.0, 4.0, 8.0])
    z, gaps, lam = Z[:5], labels[None, :] - labels[:, None], LAM[:5, :5]
    f = functools.partial(
        supremix.supremix, z, z, gaps, lam=lam, mix_negatives=False, reduce_fn=None
    )
    few, near = f(window=9.0, parts=1), f(window=2.5)
    # Row 1 has 0 below and 3 above within either, row 2 has 1 and 4.
    np.testing.assert_allclose(few[1:3], near[1:3], rtol=1e-6)
    assert not np.allclose(f(window=9.0)[1:3], near[1:3])
    np.testing.assert_allclose(f(window=9.0, parts=4), f(window=9.0), rtol=1e-6)


def test_equal_labels_make_it_supervised_contrastive():
    gaps = jnp.zeros((N, N))
    got = supremix.supremix(Z, Z, gaps, lam=LAM, window=1.0)
    others = ~pairs.one_column(jnp.arange(N), N)
    want = losses.supervised_contrastive(
        similarity.dot(Z, Z) / 0.5, gaps == 0, where=others
    )
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_weights_by_distance():
    gaps = jnp.asarray([-2.0, 0.0, 3.0])
    want = {
        "none": [1, 1, 1],
        "linear": [3, 1, 4],
        "square": [5, 1, 10],
        "inverse_linear": [1 / 3, 1, 1 / 4],
        "inverse_square": [1 / 5, 1, 1 / 10],
    }
    for kind, expected in want.items():
        got = supremix.label_distance_weight(gaps, kind=kind)
        np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_shares_depend_on_the_key_of_their_anchor():
    keys = jax.random.split(jax.random.key(0), 200)
    shares = jax.jit(functools.partial(supremix.mixing_shares, num=30))(keys)
    assert shares.shape == (200, 30) and (shares > 0).all() and (shares < 1).all()
    np.testing.assert_allclose(shares.mean(), 0.2, atol=0.01)
    np.testing.assert_allclose(shares.std(), np.sqrt(0.2 * 0.8 / 11), atol=0.01)
    with pytest.raises(ValueError, match=r"^beta: expected two whole numbers"):
        supremix.mixing_shares(keys, 3, beta=(2, 0))
    one = supremix.mixing_shares(keys[5:7], 30)
    np.testing.assert_allclose(one, shares[5:7], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": 0.0}, "^window: expected a finite number > 0, got 0.0"),
        ({"temperature": -1.0}, "^temperature: "),
        ({"lam": LAM[:2]}, r"^lam: expected shape \[n, m\]"),
        ({"rows": jnp.asarray([9] * N)}, "^rows: expected numbers"),
        ({"parts": 0}, "^parts: expected None or >= 1, got 0"),
        ({"weight": "L1"}, "^kind: expected none, linear, .* got 'L1'"),
    ],
)
def test_wrong_input_is_named(change, message, without_type_hooks):
    with pytest.raises(ValueError, match=message):
        supremix.supremix(Z, Z, GAPS, **{"lam": LAM, "window": 1.0} | change)

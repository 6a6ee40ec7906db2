"""Contract cases of ebm/nce.py and ebm/importance.py."""

from contrastive_jax import ebm

from .cases import Case
from .cases_in_batch import COLUMNS, columns, gathered_columns, pair_mask


def sampled(rng, n):
    """Scores of one positive and n + 2 negatives per example."""
    return {
        "positive_scores": rng.normal(size=n),
        "negative_scores": rng.normal(size=(n, n + 2)),
    }


def with_noise(rng, n):
    return {
        **sampled(rng, n),
        "positive_log_noise": -rng.random(n),
        "negative_log_noise": -rng.random((n, n + 2)),
    }


def unpaired(rng, n):
    """Log-densities at n data and n + 2 noise samples."""
    return {
        "f_data": rng.normal(size=n),
        "f_noise": rng.normal(size=n + 2),
        "log_q_noise": -rng.random(n + 2),
    }


def contrasted(rng, n):
    return {
        **{k.replace("f_", "log_p_"): v for k, v in unpaired(rng, n).items()},
        "log_q_data": -rng.random(n),
    }


def energies(rng, n):
    return {k.replace("scores", "energies"): 3 * v for k, v in sampled(rng, n).items()}


def scored(make):
    """The inputs of a maker with "scores" for "logits"."""

    def renamed(*args):
        return {k.replace("logits", "scores"): v for k, v in make(*args).items()}

    return renamed


SAMPLED = {"positive_scores": "n", "negative_scores": "n k"}
NOISE = {"positive_log_noise": "n", "negative_log_noise": "n k"}
SCORES = ("positive_scores", "negative_scores")

UNPAIRED = {"f_data": "n", "f_noise": "k", "log_q_noise": "k"}
DENSITIES = {
    "log_p_data": "n",
    "log_p_noise": "k",
    "log_q_data": "n",
    "log_q_noise": "k",
}
# The loss is linear in the data: NaN among the noise is what shows in gradients.
BOTH = ("f_noise", "f_data")
MODEL = ("log_p_data", "log_p_noise")

CASES = {
    "importance_nll": Case(
        ebm.importance_nll,
        UNPAIRED,
        unpaired,
        BOTH,
        where="n",
        offset=("f_data", "f_noise"),
    ),
    "exponential_nce": Case(
        ebm.exponential_nce, DENSITIES, contrasted, MODEL, where="n"
    ),
    "binary_nce": Case(
        ebm.binary_nce, SAMPLED, sampled, SCORES, options={"shift": 0.5}, where="n"
    ),
    "binary_nce/noise": Case(
        ebm.binary_nce, {**SAMPLED, **NOISE}, with_noise, SCORES, where="n"
    ),
    "negative_sampling": Case(
        ebm.negative_sampling, SAMPLED, sampled, SCORES, where="n"
    ),
    "ranking_nce": Case(
        ebm.ranking_nce,
        {**SAMPLED, **NOISE},
        with_noise,
        SCORES,
        where="n",
        offset=("positive_scores", "negative_scores"),
    ),
    "energy_hinge": Case(
        ebm.energy_hinge,
        {"positive_energies": "n", "negative_energies": "n k"},
        energies,
        ("positive_energies", "negative_energies"),
        options={"margin": 6.0},
        where="n",
        offset=("positive_energies", "negative_energies"),
    ),
    "input_label_matching": Case(
        ebm.input_label_matching,
        {"scores": "n m", "positives": "n m"},
        scored(pair_mask),
        ("scores",),
    ),
    "info_nce_bound": Case(
        ebm.info_nce_bound,
        {"scores": "n m", "labels": COLUMNS["labels"]},
        scored(columns),
        ("scores",),
        gathered=scored(gathered_columns),
        columns=("labels",),
        offset=("scores",),
    ),
}

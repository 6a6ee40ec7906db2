"""Every loss with its family, inputs, reference and whether it scales.

What the docstrings and signatures say is read from them; only the names that others
use and the forms in `parallel` are kept here.
"""

import inspect
import re
import sys
from types import ModuleType
from typing import NamedTuple

FAMILIES = {
    "losses.adversarial": "adversarial",
    "losses.distillation": "distillation",
    "losses.heatmaps": "heat maps",
    "losses.listwise": "list-wise",
    "losses.metric": "metric",
    "losses.in_batch": "in-batch",
    "losses.noncontrastive": "non-contrastive",
    "losses.preference": "preference",
    "losses.prototypes": "prototypes",
    "losses.proxies": "proxy",
    "losses.graded": "graded labels",
    "losses.routing": "mixture of experts",
    "losses.supervised": "supervised",
    "losses.tokens": "tokens",
    "ebm.diffusion": "diffusion",
    "ebm.nce": "estimation",
    "ebm.importance": "estimation",
    "methods.edlm": "methods",
    "methods.meco": "methods",
    "methods.moco": "methods",
}

ALIASES = {
    "all_direction_info_nce": ("GTE",),
    "angle_loss": ("AnglE",),
    "approx_ndcg": ("ApproxNDCG",),
    "arcface": ("additive angular margin",),
    "binary_nce": ("noise-contrastive estimation",),
    "clip_distillation": ("contrastive relational distillation",),
    "contrastive_margin": ("margin based loss",),
    "cosent": ("CoSENT",),
    "cosface": ("AM-Softmax",),
    "debiased_info_nce": ("DCL (debiased)",),
    "decoupled_info_nce": ("DCL", "DCLW"),
    "distillation_kl": ("knowledge distillation",),
    "dpo": ("direct preference optimisation", "IPO"),
    "exponential_nce": ("eNCE",),
    "fast_ap": ("FastAP",),
    "gaussian_wasserstein": ("SyCL", "Fréchet distance"),
    "hard_negative_info_nce": ("HCL",),
    "importance_nll": ("Monte Carlo maximum likelihood",),
    "info_nce": ("multiple negatives ranking", "in-batch softmax", "SimCSE", "logQ"),
    "lambda_loss": ("LambdaLoss", "LambdaRank", "RankNet"),
    "least_squares_discriminator": ("LSGAN",),
    "least_squares_generator": ("LSGAN",),
    "list_mle": ("ListMLE",),
    "list_softmax": ("ranking softmax",),
    "listnet": ("ListNet",),
    "load_balancing": ("Switch Transformer",),
    "meco": ("MECO",),
    "moco": ("MoCo v1", "MoCo v2"),
    "moco_v3": ("MoCo v3",),
    "multi_positive_info_nce": ("NT-Xent by labels",),
    "nca": ("neighbourhood components analysis",),
    "negative_sampling": ("SGNS", "word2vec"),
    "neural_ndcg": ("NeuralNDCG", "NeuralSort"),
    "nt_xent": ("SimCLR",),
    "pair_margin": ("contrastive loss",),
    "proxy_nca": ("ProxyNCA++",),
    "rank_n_contrast": ("RnC",),
    "ranking_nce": ("sampled softmax",),
    "relational_angle": ("RKD-A",),
    "relational_distance": ("RKD-D",),
    "replaced_token_detection": ("ELECTRA",),
    "router_mutual_information": ("Mod-Squad",),
    "pairwise_sigmoid": ("SigLIP",),
    "supervised_contrastive": ("SupCon",),
    "token_cross_entropy": ("language modelling", "masked language modelling"),
    "triplet_batch_all": ("batch all",),
    "triplet_batch_hard": ("batch hard",),
    "triplet_semi_hard": ("FaceNet",),
    "two_way_info_nce": ("CLIP", "symmetric multiple negatives ranking"),
    "weighted_supervised_contrastive": ("SupCon for regression",),
}

# Losses for which `parallel` has tiled_<name> and ring_<name>.
SCALABLE = (
    "info_nce",
    "nt_xent",
    "pairwise_sigmoid",
    "supervised_contrastive",
    "two_way_info_nce",
)


class Entry(NamedTuple):
    """One loss.

    Attributes:
      name: the function's name.
      family: what kind of loss it is.
      summary: the first line of its docstring.
      inputs: names of the arrays it is made from, optional ones left out.
      reference: where it comes from.
      aliases: other names for it.
      tiled: name of the form in `parallel` that never holds all scores, or None.
      ring: name of the form in `parallel` that passes candidates around, or None.
    """

    name: str
    family: str
    summary: str
    inputs: tuple[str, ...]
    reference: str
    aliases: tuple[str, ...]
    tiled: str | None
    ring: str | None


def catalogue(*packages: ModuleType) -> list[Entry]:
    """Every loss of `losses` and of the packages given, sorted by family and name.

    Args:
      packages: further packages with losses, such as `contrastive_jax.ebm`.

    Examples:
      >>> [entry.name for entry in catalogue() if entry.ring][:3]
      ['info_nce', 'nt_xent', 'sigmoid']
    """
    own = sys.modules[__package__]
    found = [
        describe(getattr(package, name))
        for package in (own, *packages)
        for name in package.__all__
        if is_loss(getattr(package, name))
    ]
    return sorted(found, key=lambda entry: (entry.family, entry.name))


def is_loss(function: object) -> bool:
    """Whether it returns one value, or one per anchor when it is not reduced."""
    if not inspect.isfunction(function):
        return False
    returned = inspect.signature(function).return_annotation
    return getattr(returned, "dim_str", None) in ("", "...")


def describe(function: object) -> Entry:
    """The entry of one loss, from its signature and docstring."""
    name, doc = function.__name__, inspect.getdoc(function)
    parameters = inspect.signature(function).parameters.values()
    reference = re.search(r"^References:\n((?:  .*\n?)+)", doc, re.MULTILINE)
    scales = name in SCALABLE
    return Entry(
        name=name,
        family=FAMILIES[function.__module__.removeprefix("contrastive_jax.")],
        summary=doc.partition("\n")[0],
        inputs=tuple(
            p.name
            for p in parameters
            if p.default is p.empty and hasattr(p.annotation, "dim_str")
        ),
        reference=" ".join(reference[1].split()) if reference else "",
        aliases=ALIASES.get(name, ()),
        tiled=f"tiled_{name}" if scales else None,
        ring=f"ring_{name}" if scales else None,
    )

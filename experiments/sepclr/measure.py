"""Leakage: what the common and the salient side know of either factor."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from contrastive_jax.evaluation import effective_rank, knn, probe
from contrastive_jax.tasks import images
from experiments.sepclr import data


class Sides(NamedTuple):
    """Representations of some rows."""

    common: np.ndarray
    salient: np.ndarray


def encode(frozen: Callable, image: np.ndarray) -> Sides:
    """Both sides of uint8 images, batch by batch."""
    batch, out = 500, []
    for start in range(0, len(image), batch):
        part = image[start : start + batch]
        padding = [(0, batch - len(part)), (0, 0), (0, 0), (0, 0)]
        both = images.run_encoder(frozen, np.pad(part, padding))
        out.append(np.asarray(both)[: len(part)])
    return Sides(*np.split(np.concatenate(out), 2, axis=1))


def targets(split: data.Split, limit: int = 0) -> data.Split:
    """The target rows, the first `limit` of them (0: all)."""
    chosen = data.rows_of(split, split.is_target)
    return data.rows_of(chosen, slice(limit or None))


def balanced(predicted: np.ndarray, label: np.ndarray) -> float:
    """Mean over classes of the share that is told right, in percent."""
    hits = [np.mean(predicted[label == x] == x) for x in np.unique(label)]
    return 100 * float(np.mean(hits))


def leakage(sides: Sequence[Sides], splits: Sequence[data.Split]) -> dict[str, float]:
    """Accuracy of linear probes, from training rows to test rows.

    Args:
      sides: representations of the training and of the test rows.
      splits: those rows.

    Returns:
      balanced accuracy (%) on target rows of "common_to_common" (should be high),
      "common_to_salient" (chance), "salient_to_salient" (high), "salient_to_common"
      (chance); "gap", the sum of their distances to 100 and to chance, the paper's
      measure; "common_to_set" and "salient_to_set", background against target.
    """
    found, gap = {}, 0.0
    for side in Sides._fields:
        train, test = (getattr(x, side) for x in sides)
        for factor in Sides._fields:
            rows = [split.is_target for split in splits]
            labels = [
                getattr(split, factor)[r] for split, r in zip(splits, rows, strict=True)
            ]
            result = probe.linear_probe(
                train[rows[0]], labels[0], test[rows[1]], labels[1]
            )
            score = balanced(result.predictions, labels[1])
            ideal = 100.0 if side == factor else 100 / len(np.unique(labels[1]))
            found[f"{side}_to_{factor}"] = score
            gap += abs(score - ideal)
        which = [split.is_target.astype(np.int32) for split in splits]
        result = probe.linear_probe(train, which[0], test, which[1])
        found[f"{side}_to_set"] = balanced(result.predictions, which[1])
    return {"gap": gap, **found}


def contrastive_pca(
    splits: Sequence[data.Split], dim: int, alpha: float = 1.0
) -> list[Sides]:
    """Pixels along directions of the background, and along those of targets only.

    Common: the first principal components of background rows. Salient: the directions
    of the largest variance of targets less `alpha` times that of backgrounds
    (contrastive PCA, Abid et al. 2018).
    """
    train = splits[0]
    x = [split.image.reshape(len(split.image), -1) / 255.0 for split in splits]
    spread = {
        chosen: np.cov(x[0][train.is_target == chosen].T) for chosen in (False, True)
    }
    kinds = spread[False], spread[True] - alpha * spread[False]
    directions = [np.linalg.eigh(kind)[1][:, -dim:] for kind in kinds]
    return [Sides(*(rows @ d for d in directions)) for rows in x]


def watch(config, frozen: Callable) -> dict[str, float]:
    """Leakage by nearest neighbors while training, and signs of collapse.

    Held-out target rows are told by the nearest training targets (by each other where
    none are held out): accuracy (%) of either factor from either side. The effective
    rank is that of centered representations.
    """
    found, rows = data.of(config), config.watch.rows
    bank = targets(found.train, rows)
    apart = bool(len(found.held_out.image))
    asked = targets(found.held_out, rows) if apart else bank
    sides = [encode(frozen, split.image) for split in (bank, asked)]
    out = {}
    for side in Sides._fields:
        train, test = (getattr(x, side) for x in sides)
        for factor in Sides._fields:
            label = getattr(bank, factor)
            wanted = getattr(asked, factor)
            predicted = knn.knn_classify(
                train,
                label,
                test if apart else None,
                k=config.eval.k,
                num_classes=int(max(label.max(), wanted.max())) + 1,
            )
            out[f"{side}_to_{factor}"] = balanced(np.asarray(predicted), wanted)
        out[f"{side}_rank"] = float(effective_rank(test - test.mean(axis=0)))
    return out

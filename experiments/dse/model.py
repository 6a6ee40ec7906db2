"""The teacher: logits of pairs by a cross-encoder, computed once and kept."""

import hashlib
import os
import pathlib
import re

import jax.numpy as jnp
import numpy as np
from sklearn.linear_model import LogisticRegression

from contrastive_jax.methods import dse
from contrastive_jax.tasks import text_encoders

BLOCK = 256  # pairs that are read between two writings of the logits


def words_of(text: str) -> list[str]:
    """Words in lower case.

    Examples:
      >>> words_of("The LORD's day, 2")
      ['the', 'lord', 's', 'day']
    """
    return re.findall(r"[a-z]+", text.lower())


def overlap(first, second) -> np.ndarray:
    """Share of common words among all words of two texts, in [-1, 1], [n].

    Stands in for a teacher where there must be none, and is the baseline of words.
    """
    both = [
        (set(words_of(a)), set(words_of(b))) for a, b in zip(first, second, strict=True)
    ]
    return np.array([2 * len(a & b) / max(len(a | b), 1) - 1 for a, b in both])


def teach(config, pairs, file=None) -> np.ndarray:
    """The teacher's logits [n, c] of pairs, in their order.

    They are written to a file block by block, each time whole or not at all, and are
    not computed again by a run that was cut off.

    Args:
      config: with `teacher`; path "overlap" is `overlap`, else `text_encoders.load`.
      pairs: n pairs, `data.Pairs`.
      file: where the logits are kept, .npz; None for nowhere.
    """
    section = config.teacher
    if section.path == "overlap":
        return 4 * overlap(pairs.first, pairs.second)[:, None]
    encoder = text_encoders.load(section)
    both = list(zip(pairs.first, pairs.second, strict=True))
    digest = hashlib.sha256(
        repr((section.path, section.dtype, both)).encode()
    ).hexdigest()
    done = np.zeros((0, 1), np.float32)
    if file is not None and file.exists():
        with np.load(file) as kept:
            if kept["digest"] == digest:  # of these pairs, in this order
                done = kept["logits"]
    if len(done) < len(both):
        print(f"teacher: {len(both) - len(done)} pairs", flush=True)
    blocks = [done] if len(done) else []
    for start in range(len(done), len(both), BLOCK):
        here = encoder.tokenize(both[start : start + BLOCK])
        blocks.append(encoder.score(encoder.params, here))
        if file is not None:
            write(file, digest=digest, logits=np.concatenate(blocks))
    return np.concatenate(blocks)


def write(file: pathlib.Path, **arrays) -> None:
    """An .npz file, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name("tmp-" + file.name)
    np.savez(temporary, **arrays)
    os.replace(temporary, file)


def task_logits(config, logits) -> np.ndarray:
    """The teacher's logits in the form of the student's: two classes become one."""
    if config.loss.task == "binary" and logits.shape[1] == 2:
        logits = np.asarray(dse.binary_teacher_logit(jnp.asarray(logits)))
    if logits.shape[1] != config.head.classes:
        raise ValueError(
            f"head.classes: expected {logits.shape[1]} (the teacher's logits), got "
            f"{config.head.classes}"
        )
    return logits


def calibrate(logits, labels) -> tuple[float, float]:
    """Scale a and offset b so that sigmoid(a logit + b) fits labels 0 and 1.

    By logistic regression on one feature: a teacher that was made for another task says
    which pairs are better, but not from where on they are right.
    """
    mean, std = np.mean(logits), max(float(np.std(logits)), 1e-12)
    scaled = (np.reshape(logits, (-1, 1)) - mean) / std
    fit = LogisticRegression(C=1.0).fit(scaled, labels > 0.5)
    slope = float(fit.coef_[0, 0]) / std
    return slope, float(fit.intercept_[0] - slope * mean)

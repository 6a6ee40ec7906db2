"""Chains of digits and what is sampled of them; annotated solutions of CHAMP problems.

A question is a digit and some operations, as 3 + 4 * 2 - 5 + 9 =; its trace are the
value after every operation, the answer and an end: 7 4 9 8 # 8 $. Every sequence has
the same length. The critical token of a wrong trace is the first that differs from the
right trace.

CHAMP (Mao et al. 2024, arXiv:2406.18321): solutions of maths problems by four models,
two of each problem with the first wrong step marked.
"""

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from contrastive_jax.data import batches as rows
from contrastive_jax.data import packaged

SIGNS = "+-*"
EQUALS, ANSWER, END = 13, 14, 15
VOCABULARY = "0123456789" + SIGNS + "=#$"
# Streams of random numbers: what is drawn for training is not drawn for the test.
TRAIN, ASK, TEST, SPOIL, CHOOSE = range(5)


class Chains(NamedTuple):
    """Questions with their right traces.

    Attributes:
      prompts: [n, 2 k + 2] tokens of k operations.
      traces: [n, k + 3] tokens.
    """

    prompts: np.ndarray
    traces: np.ndarray


def draw(config: Any, stream: int, number: int) -> Chains:
    """Random questions; every stream of a seed has its own."""
    rng, k = np.random.default_rng([config.seed, stream]), config.data.operations
    digits, signs = (
        rng.integers(10, size=(number, k + 1)),
        rng.integers(3, size=(number, k)),
    )
    values = [digits[:, 0]]
    for i in range(k):
        a, b = values[-1], digits[:, i + 1]
        values.append(np.choose(signs[:, i], [a + b, a - b, a * b]) % 10)
    prompts = np.full((number, 2 * k + 2), EQUALS)
    prompts[:, 0:-1:2], prompts[:, 1:-1:2] = digits, signs + 10
    ends = np.tile([ANSWER, 0, END], (number, 1))
    ends[:, 1] = values[-1]
    traces = np.column_stack([*values[1:], ends])
    return Chains(prompts.astype(np.int32), traces.astype(np.int32))


def whole(prompts: np.ndarray, traces: np.ndarray) -> np.ndarray:
    """Prompts and traces as sequences."""
    return np.concatenate([prompts, traces], axis=1)


def response(config: Any, tokens: np.ndarray) -> np.ndarray:
    """Labels that belong to the trace, [n, t - 1] as the labels of `tokens`."""
    first = 2 * config.data.operations + 1
    return np.broadcast_to(np.arange(tokens.shape[1] - 1) >= first, tokens[:, 1:].shape)


def answers(traces: np.ndarray) -> np.ndarray:
    """The answer of each trace, -1 where there is none: `# digit $` must end it."""
    tail = traces[..., -3:]
    right = (tail[..., 0] == ANSWER) & (tail[..., 1] < 10) & (tail[..., 2] == END)
    return np.where(right, tail[..., 1], -1)


def spoiled(config: Any) -> tuple[np.ndarray, np.ndarray]:
    """Right sequences of the training questions, and the same with one digit wrong."""
    chosen = whole(*draw(config, TRAIN, config.data.train))
    rng, rejected = np.random.default_rng([config.seed, SPOIL]), chosen.copy()
    places = (
        2 * config.data.operations
        + 2
        + rng.integers(config.data.operations, size=len(chosen))
    )
    each = np.arange(len(chosen))
    rejected[each, places] = (
        chosen[each, places] + rng.integers(1, 10, len(chosen))
    ) % 10
    return chosen, rejected


def predict_rows(config: Any, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Arrays of the stage "predict"."""
    return {"tokens": tokens, "response": response(config, tokens)}


def prefer_rows(
    config: Any, chosen: np.ndarray, rejected: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Arrays of the stage "prefer"."""
    return {
        "chosen": chosen,
        "chosen_response": response(config, chosen),
        "rejected": rejected,
        "rejected_response": response(config, rejected),
        "rejected_weights": weights,
    }


def batches(config: Any, start_step: int, arrays: dict[str, np.ndarray] | None = None):
    """Shuffled batches of arrays; of chains (predict) or spoiled chains if None.

    tokens, chosen, rejected [n, t] int32; responses [n, t - 1] bool, and weights. Where
    there are fewer rows than a batch, all of them.
    """
    if arrays is None and config.stage == "predict":
        arrays = predict_rows(config, whole(*draw(config, TRAIN, config.data.train)))
    elif arrays is None:
        pair = spoiled(config)
        wrong = (pair[0] != pair[1])[:, 1:].astype(np.float32)
        arrays = prefer_rows(config, *pair, wrong)
    found = rows.array_rows(arrays)
    return rows.row_batches(
        found,
        batch_size=min(config.data.batch_size, found.total),
        seed=config.seed,
        start_step=start_step,
    )


class Solutions(NamedTuple):
    """Texts as sequences of tokens, padded on the right.

    Attributes:
      tokens: [n, t].
      response: labels that belong to the solution, [n, t - 1].
      critical: labels that belong to the first wrong step, [n, t - 1].
    """

    tokens: np.ndarray
    response: np.ndarray
    critical: np.ndarray


class Champ(NamedTuple):
    """Right and wrong solutions to tune on, and marked ones of other problems."""

    positive: Solutions
    negative: Solutions
    marked: Solutions


def champ(config: Any, encode: Callable[[str], Any]) -> Champ:
    """Solutions of the problems with a whole number as answer, marked ones of others.

    Args:
      config: all settings.
      encode: text to an encoding with `ids` and `offsets` (`tokenizers`).
    """
    member = "champ_dataset/dataset_files/v0.json"
    problems = json.loads(packaged.read_member("champ", member))["problems"].values()
    rng, settings = np.random.default_rng(config.seed), config.champ
    told: dict[bool, list[Any]] = {True: [], False: []}
    marked = []
    for problem in problems:
        prompt, answer = (
            f"Problem: {problem['_text']}\nSolution: ",
            number_in(problem["_answer"]),
        )
        if answer is None:
            steps = [
                x
                for x in problem["fws_annotations"].values()
                if x["start_idx"] is not None
            ]
            marked.append(
                [(prompt, x["text"], (x["start_idx"], x["end_idx"])) for x in steps]
            )
            continue
        own: dict[bool, list[Any]] = {True: [], False: []}
        for talk in problem["conversations"].values():
            text, summary = (talk["messages"][i]["text"] for i in (-3, -1))
            numbers = re.findall(r"-?\d[\d,]*", summary or "")
            if text and numbers:
                right = numbers[-1].replace(",", "") == answer
                own[right].append((prompt, text, (0, 0)))
        for right, texts in own.items():
            order = rng.permutation(len(texts))[: settings.solutions]
            told[right] += [texts[i] for i in order]
    # The test problems are the same for every seed.
    tested = np.random.default_rng(0).permutation(len(marked))[: settings.problems]
    parts = [told[True], told[False], [x for i in tested for x in marked[i]]]
    positive, negative, test = (sequences(x, settings.length, encode) for x in parts)
    seen = np.any(test.critical, axis=1)  # else it lies beyond the length
    return Champ(positive, negative, Solutions(*(x[seen] for x in test)))


def number_in(answer: str) -> str | None:
    """A whole number that is the answer, or one of its forms.

    Examples:
      >>> number_in("C(10, 5), or equivalently 252"), number_in("2^(n-1)")
      ('252', None)
    """
    forms = re.split(r",? or equivalently ", answer)
    return next((x for x in forms if re.fullmatch(r"-?\d+", x)), None)


def sequences(texts: Any, length: int, encode: Callable[[str], Any]) -> Solutions:
    """(prompt, solution, span of characters) as tokens, cut off at a length."""
    tokens = np.zeros((len(texts), length), np.int32)
    response, critical = np.zeros((2, len(texts), length), bool)
    for i, (prompt, text, (start, end)) in enumerate(texts):
        asked, told = encode(prompt).ids, encode(text)
        ids = [*asked, *told.ids][:length]
        tokens[i, : len(ids)] = ids
        response[i, len(asked) : len(ids)] = True
        inside = [a < end and b > start for a, b in told.offsets]
        critical[i, len(asked) : len(ids)] = inside[: max(length - len(asked), 0)]
    return Solutions(tokens, response[:, 1:], critical[:, 1:])

"""Sentences per second of all-MiniLM-L6-v2, beside sentence-transformers.

sentence-transformers brings PyTorch: it runs by an interpreter of its own (`--peer`).
"""

import json
import pathlib
import tempfile
import time
from typing import Any

from launch.bench.measure import memory_mark, run_peer, status, timed

METHODS = ["ours", "sbert/torch"]
# Task -> methods, ours first. Definitions have about 14 tokens, passages 180.
TASKS = {name: METHODS for name in ("short", "mixed", "long")}
SENTENCES = 7  # of a passage


def texts(task: str, rows: int) -> list[str]:
    """Texts of a task, the same for all: definitions, passages, or half of each."""
    import numpy as np

    from contrastive_jax.data import sentences

    short = sentences.glosses(rows, seed=0).queries
    brown = sentences.brown_sentences()
    starts = np.random.default_rng(0).integers(0, len(brown) - SENTENCES, rows)
    long = [" ".join(brown[i : i + SENTENCES]) for i in starts]
    if task == "short":
        return short
    if task == "long":
        return long
    return [short[i] if i % 2 else long[i] for i in range(rows)]


def measure_encode(task: str, method: str, rows: int, width: int) -> dict:
    """Everything about one method for so many texts of at most `width` tokens.

    `seconds` are from texts to embeddings, tokens and padding included; `loss` is the
    mean size of a coordinate, `difference` the largest one from ours.
    """
    import warnings

    import numpy as np

    from contrastive_jax.tasks import text_encoders

    chosen = texts(task, rows)
    encoder = text_encoders.load(text_encoders.packaged())

    def run():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return encoder.encode(encoder.params, chosen)

    if method.startswith("sbert"):
        theirs, vectors = peer(chosen, width)
        return theirs | {"difference": float(np.abs(vectors - run()).max())}
    start = time.process_time()
    run()
    first = time.process_time() - start
    before = memory_mark()
    seconds, vectors = timed(run, 3)
    start = time.process_time()
    lengths = [len(row) for row in encoder.tokenize(chosen).tokens]
    tokenizing = time.process_time() - start
    return {
        "seconds": seconds,
        "texts_per_second": rows / seconds,
        "compile_seconds": first - seconds,
        "tokenize_seconds": tokenizing,
        "tokens": sum(lengths),
        "rise": status("VmHWM") - before,
        "loss": float(np.abs(np.asarray(vectors, np.float64)).mean()),
    }


def peer(chosen: list[str], width: int) -> tuple[dict, Any]:
    """What sentence-transformers says, run by the interpreter that BENCH_PEER names."""
    import numpy as np

    from contrastive_jax.data import sentences

    with tempfile.TemporaryDirectory() as folder:
        job = dict(folder=str(sentences.model("minilm")), texts=chosen, width=width)
        pathlib.Path(f"{folder}/job.json").write_text(json.dumps(job))
        found = run_peer("sbert_peer.py", folder)
        return found, np.load(f"{folder}/vectors.npy")

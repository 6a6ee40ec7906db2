"""Encodes by sentence-transformers what `launch.bench.encode` hands it; prints JSON.

Run by an interpreter that has sentence-transformers; imports nothing of ours. A job
with "check" is not measured: it lists folders with the texts or pairs to embed or score
by each, which is how a test sees that our folders are read as they were meant.
"""

import json
import pathlib
import sys
import time

import numpy as np
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer

# Its default, and two that suit short texts; the fastest counts.
SIZES = (32, 64, 128)


def outputs(folder: str, texts: list) -> list:
    """Embeddings of texts, or logits of pairs."""
    if isinstance(texts[0], str):
        return SentenceTransformer(folder, device="cpu").encode(texts).tolist()
    return CrossEncoder(folder, device="cpu").predict(texts).tolist()


def main() -> None:
    """Least time of two calls for each size of a batch."""
    torch.set_num_threads(1)
    folder = pathlib.Path(sys.argv[1])
    job = json.loads((folder / "job.json").read_text())
    if "check" in job:
        print(json.dumps([outputs(*case) for case in job["check"]]))
        return
    model = SentenceTransformer(job["folder"], device="cpu")
    model.max_seq_length = job["width"]
    best, chosen = float("inf"), 0
    vectors = model.encode(job["texts"])
    for size in job.get("sizes", SIZES):
        for _ in range(2):
            start = time.process_time()
            model.encode(job["texts"], batch_size=size)
            seconds = time.process_time() - start
            if seconds < best:
                best, chosen = seconds, size
    np.save(folder / "vectors.npy", vectors)
    found = {
        "seconds": best,
        "texts_per_second": len(job["texts"]) / best,
        "batch": chosen,
        "loss": float(np.abs(vectors.astype(np.float64)).mean()),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()

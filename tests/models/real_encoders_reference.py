"""Writes real_encoders.npz: the packaged MiniLM and cross-encoder by other libraries.

    python tests/models/real_encoders_reference.py MINILM RERANKER ONNX

MINILM is the folder of `data.sentences.model("minilm")`, ONNX that of "reranker", and
RERANKER the same, written by `pretrained.save_encoder` (weights of 8 bits as float32).
Made with sentence-transformers 6.2.0, transformers 5.24.0 and torch 2.14.1; what
onnxruntime 1.32.0 makes of the file itself was added by a second call, in an
environment that has it.
"""

import json
import pathlib
import sys

import numpy as np

FILE = pathlib.Path(__file__).with_name("real_encoders.npz")
TEXTS = [
    "A man is eating food.",
    "The girl is carrying a baby.",
    "hi",
    "Ünïcödé, 数字 and 12,345.67!",
    "The quick brown fox jumps over the lazy dog. " * 40,
]
QUESTION = "how many people live in Berlin?"
PAIRS = [
    (QUESTION, "Berlin had a population of 3,520,031 registered inhabitants."),
    (QUESTION, "New York City is famous for the Metropolitan Museum of Art."),
    ("what is a fox", "The quick brown fox jumps over the lazy dog."),
]


def by_torch(minilm: str, reranker: str) -> dict[str, np.ndarray]:
    """Embeddings and logits."""
    import torch
    import transformers
    from sentence_transformers import SentenceTransformer

    model = transformers.AutoModelForSequenceClassification.from_pretrained(reranker)
    tokenizer = transformers.AutoTokenizer.from_pretrained(reranker)
    inputs = tokenizer(*map(list, zip(*PAIRS, strict=True)), padding=True)
    inputs = {k: torch.tensor(v) for k, v in inputs.items()}
    with torch.inference_mode():
        logits = model.eval()(**inputs).logits.numpy()
    vectors = SentenceTransformer(minilm, device="cpu").encode(TEXTS)
    return {"minilm": vectors, "reranker": logits}


def by_onnxruntime(folder: str) -> dict[str, np.ndarray]:
    """Logits of the graph itself, whose activations are rounded to 8 bits, too."""
    import onnxruntime
    import tokenizers

    session = onnxruntime.InferenceSession(f"{folder}/model.onnx")
    tokenizer = tokenizers.Tokenizer.from_file(f"{folder}/tokenizer.json")
    tokenizer.no_padding()
    rows = []
    for pair in PAIRS:
        row = tokenizer.encode(*pair)
        inputs = dict(
            input_ids=row.ids,
            attention_mask=row.attention_mask,
            token_type_ids=row.type_ids,
        )
        inputs = {k: np.array([v], np.int64) for k, v in inputs.items()}
        rows.append(session.run(None, inputs)[0][0])
    return {"reranker_onnxruntime": np.array(rows)}


def main() -> None:
    """What this environment can add."""
    out = dict(np.load(FILE)) if FILE.exists() else {}
    try:
        out |= by_torch(*sys.argv[1:3])
    except ImportError:
        out |= by_onnxruntime(sys.argv[3])
    out |= {"texts": json.dumps(TEXTS), "pairs": json.dumps(PAIRS)}
    np.savez_compressed(FILE, **out)
    print(sorted(out))


if __name__ == "__main__":
    main()

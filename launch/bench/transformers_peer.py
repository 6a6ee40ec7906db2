"""Decodes by transformers what `launch.bench.decode` hands it, and prints JSON.

Run by an interpreter that has torch and transformers 4.46.3; imports nothing of ours.
"""

import json
import pathlib
import sys
import time

import torch
import transformers
from safetensors.torch import load_file


def main() -> None:
    """Times and tokens of one rule."""
    folder = pathlib.Path(sys.argv[1])
    job = json.loads((folder / "job.json").read_text())
    torch.set_num_threads(1)
    config = transformers.LlamaConfig(**job["config"])
    model = transformers.LlamaForCausalLM(config).eval()
    missing, unknown = model.load_state_dict(
        load_file(folder / "model.safetensors"), strict=False
    )
    if unknown or missing != ["lm_head.weight"]:
        raise SystemExit(f"weights: missing {missing}, unknown {unknown}")
    model.tie_weights()
    model.generation_config = transformers.GenerationConfig(pad_token_id=0)
    options = {
        "greedy": dict(do_sample=False),
        "greedy_static": dict(do_sample=False, cache_implementation="static"),
        "contrastive": dict(penalty_alpha=job["alpha"], top_k=job["k"]),
        "beam": dict(num_beams=job["beams"], do_sample=False, length_penalty=0.0),
    }[job["rule"]]
    texts = [
        (torch.tensor(tokens), torch.tensor(where).long())
        for tokens, where in job["texts"]
    ]

    def decode(text, new):
        with torch.inference_mode():
            out = model.generate(
                text[0], attention_mask=text[1], max_new_tokens=new, **options
            )
        return out[:, text[0].shape[1] :].tolist()

    def least_seconds(new, calls):
        best = float("inf")
        for _ in range(calls):
            start = time.process_time()
            for text in texts[:count]:
                decode(text, new)
            best = min(best, time.process_time() - start)
            if best > 10:
                break
        return best / count

    count, new = min(len(texts), 4), job["new"]
    seconds, first = least_seconds(new, 2), least_seconds(1, 3)
    found = {
        "seconds": seconds,
        "first_seconds": first,
        "step_seconds": (seconds - first) / (new - 1),
        "tokens": [decode(text, new) for text in texts],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()

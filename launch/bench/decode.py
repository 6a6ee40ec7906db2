"""Decoding with SmolLM2: rules beside greedy search, and beside transformers.

transformers 4.46.3 is the last release that has contrastive search, and needs another
tokenizers than ours, so it runs by an interpreter of its own (`--peer`).
"""

import json
import pathlib
import tempfile
import time

from launch.bench.measure import MIB, run_peer, timed

PROMPTS = (
    "The capital of France is",
    "Once upon a time, in a village by the sea,",
    "The three most important things about a good night's sleep are",
    "Water boils at a lower temperature on a mountain because",
    "Dear neighbor, I am writing to you about the tree that",
    "To bake a simple loaf of bread, first",
    "In the year 1969,",
    "The old clock in the hall struck twelve, and",
    "A prime number is",
    "Our train was late again this morning, so",
    "The difference between a frog and a toad is",
    "When the war was over, the soldiers",
    "A computer program is made of",
    "She opened the letter slowly and read:",
    "The best way to learn a language is",
    "Bees are important for farmers since",
    "On the first day of school, the teacher",
    "The river had risen in the night and",
    "Gravity is the force that",
    "If I could travel anywhere in the world, I would",
)
WIDTH = 4  # beams
K, ALPHA = 5, 0.6
SEARCHES = ("greedy", "contrastive", "beam")
# Nothing but the products with the weights of a step: of its texts, of k candidates of
# each. No search is faster on these products.
PRODUCTS = {"products": 1, "products_k": K}
CHOSEN = (
    "greedy",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "layer_contrast",
    "contrast",
    "context_aware",
    "entropy_constrained",
    "adacad",
    "lol",
)
TASKS = {
    "search": [
        *(f"ours/{name}" for name in (*SEARCHES, *PRODUCTS)),
        "transformers/greedy",
        "transformers/greedy_static",
        "transformers/contrastive",
        "transformers/beam",
    ],
    "rules": [f"ours/{name}" for name in CHOSEN],
}
# Streams of a rule: the prompt as it is, and as often again for its rivals.
STREAMS = {
    "contrast": 2,
    "context_aware": 2,
    "entropy_constrained": 2,
    "adacad": 2,
    "lol": 3,
}


def language():
    """SmolLM2 in float32."""
    from contrastive_jax.tasks import language_models

    return language_models.load_path("smollm2", "float32")


def rule(name: str):
    """Scores of the next token by a rule, from what the model says and the text."""
    from contrastive_jax import decoding
    from contrastive_jax.methods import adacad, lol

    def choose(out, text):
        if name == "lol":
            own, (false, true) = out
            early = own.early, false.early
            both = own.logits, false.logits
            return lol.lol_dynamic_scores(
                *both, *early, true.logits, lam=1.0, gamma=0.5
            )
        if name in STREAMS:
            home = adacad if name == "adacad" else decoding
            f = getattr(home, "adacad_logits" if name == "adacad" else name)
            return f(out[0].logits, out[1].logits)
        logits = out.logits
        if name == "greedy":
            return logits
        if name == "layer_contrast":
            return decoding.layer_contrast(logits, out.early)
        if name == "repetition_penalty":
            seen = decoding.seen_tokens(*text, logits.shape[-1])
            return decoding.repetition_penalty(logits, seen, 1.2)
        number = {"temperature": 0.7, "top_k": 50, "top_p": 0.95, "min_p": 0.1}[name]
        return getattr(decoding, name)(logits, number)

    return choose


def decoder(name: str, new: int):
    """A compiled `run(variables, prompt) -> tokens [n, new]` of a search or a rule."""
    import jax

    from contrastive_jax import decoding
    from contrastive_jax.models import decoding as reading

    model = language().model

    def run(variables, prompt):
        slots = prompt.tokens.shape[1] + new
        layers = tuple(range(model.depth // 2, model.depth, 2))
        layers = layers if name in ("layer_contrast", "lol") else ()
        read = reading.read_prompt(model, variables, prompt, slots, layers=layers)
        if name == "contrastive":
            reader = reading.make_reader(model, variables)
            return decoding.contrastive_search(
                reader, read.cache, read.hidden, prompt, k=K, alpha=ALPHA, max_new=new
            ).tokens
        step = reading.make_step(model, variables, layers=layers)
        state, out = read.cache, read.out
        one = step, state, out
        for _ in range(STREAMS.get(name, 1) - 1):
            step = decoding.two_streams(one[0], step)
            state, out = (one[1], state), (one[2], out)
        more = dict(choose=rule("greedy" if name == "beam" else name), max_new=new)
        if name == "beam":
            found = decoding.beam_search(
                step, state, out, prompt, width=WIDTH, length_penalty=0.0, **more
            )
            return found.tokens[:, 0]
        return decoding.generate(step, state, out, prompt, **more).tokens

    return jax.jit(run)


def products(rows: int, k: int):
    """A compiled `run(params, x)`: blocks for k rows of a text, the head for one."""
    import jax

    model = language().model

    def run(params, x):
        for i in range(model.depth):
            block = params[f"block_{i}"]
            y = x @ block["attention"]["qkv"]["kernel"]
            x = x + y[:, : model.width] @ block["attention"]["out"]["kernel"]
            y = x @ block["gate_up"]["kernel"]
            x = x + y[:, : model.mlp_width] @ block["down"]["kernel"]
        return x[::k] @ params["embed"]["embedding"].T

    x = jax.numpy.ones((rows * k, model.width))
    return jax.jit(run).lower(language().variables["params"], x).compile(), x


def batches(rows: int):
    """All prompts in batches of so many, all of one length, the last one filled up."""
    import jax

    from contrastive_jax.models import decoding as reading

    ids = [language().encode(text).tolist() for text in PROMPTS]
    ids += ids[: -len(ids) % rows]
    text = reading.pad_left(ids)
    cut = range(0, len(ids), rows)
    return [jax.tree.map(lambda x, i=i: x[i : i + rows], text) for i in cut]


def measure_decode(task: str, method: str, rows: int, new: int) -> dict[str, float]:
    """Everything about one method at one batch size; times are those of a batch."""
    import numpy as np

    library, _, name = method.partition("/")
    if name in PRODUCTS:
        program, x = products(rows, PRODUCTS[name])
        params = language().variables["params"]
        seconds, _ = timed(lambda: program(params, x).block_until_ready(), 20)
        return {"seconds": seconds * (new - 1), "step_seconds": seconds}
    variables, texts = language().variables, batches(rows)
    run = decoder(name.removesuffix("_static"), new)

    def compiled(new):
        start = time.process_time()
        program = decoder(name, new).lower(variables, texts[0]).compile()
        return program, time.process_time() - start

    if library == "transformers":
        ours = [np.asarray(run(variables, text)) for text in texts]
        found = peer(name, texts, new)
        theirs = np.concatenate([np.asarray(x) for x in found.pop("tokens")])
        same = (np.concatenate(ours) == theirs).all(axis=1)[: len(PROMPTS)]
        return found | {"texts": len(same), "same_as_ours": int(same.sum())}
    program, compiling = compiled(new)
    first, _ = compiled(1)
    longer, _ = compiled(4 * new)

    def decode(program, text):
        return program(variables, text).block_until_ready()

    count = min(len(texts), 4)  # batches whose time is taken
    seconds, _ = timed(lambda: [decode(program, x) for x in texts[:count]], 3)
    to_first, _ = timed(lambda: [decode(first, x) for x in texts[:count]], 3)
    return {
        "seconds": seconds / count,
        "first_seconds": to_first / count,
        "step_seconds": (seconds - to_first) / count / (new - 1),
        "compile_seconds": compiling,
        "scratch": program.memory_analysis().temp_size_in_bytes / MIB,
        "scratch_4x_length": longer.memory_analysis().temp_size_in_bytes / MIB,
        "cache": cache_size(rows, texts, new) / MIB,
        "cache_4x_length": cache_size(rows, texts, 4 * new) / MIB,
    }


def cache_size(rows: int, texts: list, new: int) -> int:
    """Bytes of the cache of a batch; it is part of the scratch."""
    model = language().model
    slots = texts[0].tokens.shape[1] + new
    kv_heads = model.kv_heads or model.heads
    return rows * slots * model.depth * 2 * kv_heads * (model.width // model.heads) * 4


def peer(name: str, texts: list, new: int) -> dict:
    """What transformers says, run by the interpreter that BENCH_PEER names."""
    import numpy as np
    from safetensors.numpy import save_file

    model = language().model
    with tempfile.TemporaryDirectory() as folder:
        weights = {k: np.ascontiguousarray(v) for k, v in state_dict().items()}
        save_file(weights, f"{folder}/model.safetensors")
        del weights
        config = dict(
            vocab_size=model.vocab_size,
            hidden_size=model.width,
            intermediate_size=model.mlp_width,
            num_hidden_layers=model.depth,
            num_attention_heads=model.heads,
            num_key_value_heads=model.kv_heads,
            max_position_embeddings=model.max_length,
            rope_theta=model.rotary_base,
            rms_norm_eps=model.epsilon,
            tie_word_embeddings=True,
        )
        job = dict(
            config=config,
            rule=name,
            new=new,
            k=K,
            alpha=ALPHA,
            beams=WIDTH,
            texts=[[x.tolist() for x in map(np.asarray, text)] for text in texts],
        )
        pathlib.Path(f"{folder}/job.json").write_text(json.dumps(job))
        return run_peer("transformers_peer.py", folder)


def state_dict():
    """The weights in the names of Hugging Face."""
    import numpy as np

    model, params = language().model, language().variables["params"]
    size = model.width // model.heads
    ends = np.cumsum([model.heads * size, model.kv_heads * size])
    found = {
        "model.embed_tokens.weight": params["embed"]["embedding"],
        "model.norm.weight": params["norm"]["scale"],
    }
    for i in range(model.depth):
        block, at = params[f"block_{i}"], f"model.layers.{i}."
        parts = np.split(np.asarray(block["attention"]["qkv"]["kernel"]), ends, axis=1)
        for letter, part in zip("qkv", parts, strict=True):
            found[f"{at}self_attn.{letter}_proj.weight"] = part.T
        gate, up = np.split(np.asarray(block["gate_up"]["kernel"]), 2, axis=1)
        found |= {
            f"{at}self_attn.o_proj.weight": block["attention"]["out"]["kernel"].T,
            f"{at}mlp.gate_proj.weight": gate.T,
            f"{at}mlp.up_proj.weight": up.T,
            f"{at}mlp.down_proj.weight": block["down"]["kernel"].T,
            f"{at}input_layernorm.weight": block["norm_1"]["scale"],
            f"{at}post_attention_layernorm.weight": block["norm_2"]["scale"],
        }
    return {name: np.asarray(x) for name, x in found.items()}

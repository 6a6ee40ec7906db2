"""launch.generate on a small model of its own: every rule, and what it refuses."""

import json

import numpy as np
import pytest

from launch import generate

safetensors = pytest.importorskip("safetensors.numpy")
tokenizers = pytest.importorskip("tokenizers")

WORDS = ["<end>", "a", "b", "c", "d", "e", "f", "ab"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Llama of two blocks in Hugging Face layout, with a tokenizer of words."""
    path = tmp_path_factory.mktemp("model")
    write_llama(path)
    return path


def write_llama(path, *, seed=0, **changes):
    """Writes config.json, model.safetensors and tokenizer.json."""
    config = dict(
        model_type="llama",
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=24,
        max_position_embeddings=64,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        eos_token_id=0,
    )
    config |= changes
    (path / "config.json").write_text(json.dumps(config))
    rng = np.random.default_rng(seed)
    width, hidden, kv = 16, 24, 8

    def draw(*shape):
        return rng.normal(0, 0.5, shape).astype(np.float32)

    tensors = {
        "model.embed_tokens.weight": draw(len(WORDS), width),
        "model.norm.weight": 1 + draw(width),
    }
    for i in range(2):
        at = f"model.layers.{i}."
        for name, shape in {
            "self_attn.q_proj": (width, width),
            "self_attn.k_proj": (kv, width),
            "self_attn.v_proj": (kv, width),
            "self_attn.o_proj": (width, width),
            "mlp.gate_proj": (hidden, width),
            "mlp.up_proj": (hidden, width),
            "mlp.down_proj": (width, hidden),
        }.items():
            tensors[f"{at}{name}.weight"] = draw(*shape)
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{at}{name}.weight"] = 1 + draw(width)
    safetensors.save_file(tensors, path / "model.safetensors")
    words = tokenizers.models.WordLevel(
        {word: i for i, word in enumerate(WORDS)}, unk_token="a"
    )
    tokenizer = tokenizers.Tokenizer(words)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(path / "tokenizer.json"))
    return tensors


def run(folder, *words):
    return generate.main(["--model", str(folder), "--tokens", "3", *words])


# The others compile much of the same.
QUICK = ("greedy", "contrastive")
RULES = [
    pytest.param(rule, marks=() if rule in QUICK else pytest.mark.experiments)
    for rule in generate.SETTINGS
]


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_writes_text(folder, rule, capsys):
    more = {
        "amateur": ["--amateur", str(folder)],
        "context": ["--without", "a"],
        "constrained": ["--without", "a"],
        "adacad": ["--without", "a", "--set", "base=2.0"],
        "lol": ["--false", "a", "--truthful", "d a", "--set", "lowest=0.0"],
        "top_k": ["--set", "k=2"],
        "contrastive": ["--set", "k=2", "alpha=0.5"],
    }.get(rule, [])
    assert run(folder, "--rule", rule, *more, "--seed", "1", "b c d") == 0
    text = capsys.readouterr().out
    assert text.startswith("b c d")
    assert set(text.removeprefix("b c d").split()) <= {*WORDS}


def test_side_by_side(folder, capsys):
    assert run(folder, "--compare", "greedy", "sample", "b c") == 0
    out = capsys.readouterr().out
    assert "--- greedy\nb c" in out and "--- sample\nb c" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "k=3", "b"], "rule greedy has no settings"),
        (["--rule", "top_k", "--set", "k=x", "b"], "expected k=NUMBER"),
        (["--rule", "top_k", "--set", "k=1.5", "b"], "expected a whole number"),
        (["--rule", "top_k", "--set", "k=9", "b"], "k: expected 1 to 8"),
        (
            ["--rule", "contrastive", "--set", "alpha=2", "b"],
            "alpha: expected a number",
        ),
        (["--rule", "context", "b"], "--without: rule context needs"),
        (["--rule", "adacad", "b"], "--without: rule adacad needs"),
        (["--rule", "lol", "--false", "a", "b"], "--truthful: rule lol needs"),
        (["--rule", "amateur", "b"], "--amateur: rule amateur needs"),
        (["--tokens", "64", "b"], "more than the model's 64"),
        (["--tokens", "0", "b"], "--tokens: expected at least 1"),
        ([""], "PROMPT: expected a token or more"),
    ],
)
def test_wrong_input_is_one_line(folder, words, message, capsys):
    assert run(folder, *words) == generate.WRONG_INPUT
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_model_that_is_not_there(tmp_path, capsys):
    assert run(tmp_path / "none", "b") == generate.WRONG_INPUT
    assert "expected a folder with config.json" in capsys.readouterr().err

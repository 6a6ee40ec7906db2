"""Weights from disk: both layouts, and files that are damaged or lie."""

import json
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax.models import pretrained
from contrastive_jax.models.pretrained import names
from tests.commands.test_generate import WORDS, write_llama

gguf = pytest.importorskip("gguf")
safetensors = pytest.importorskip("safetensors.numpy")

TEXT = jnp.array([[1, 5, 2, 7, 3]])


def scores(language):
    out = language.model.apply(language.variables, TEXT)
    return language.model.apply(language.variables, out.last, method="logits")


def neighbors(matrix, heads):
    """A query or key matrix as GGUF files store it; undoes `names.halves`."""
    out, width = matrix.shape
    halves = matrix.reshape(heads, 2, out // heads // 2, width)
    return halves.swapaxes(1, 2).reshape(out, width)


def write_gguf(path, tensors, *, architecture="llama", leave_out=()):
    """The same Llama as a GGUF file, unquantized."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_embedding_length(16)
    writer.add_block_count(2)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_feed_forward_length(24)
    writer.add_context_length(64)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(WORDS)
    writer.add_token_types([3] + [1] * 7)
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(0)
    for name, x in tensors.items():
        for part, heads in (("q_proj", 4), ("k_proj", 2)):
            x = neighbors(x, heads) if part in name else x
        if name not in leave_out:
            writer.add_tensor(names.gguf_name(name), np.ascontiguousarray(x))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_both_layouts_are_the_same_model(tmp_path):
    tensors = write_llama(tmp_path)
    write_gguf(tmp_path / "model.gguf", {**tensors})
    folder, file = (pretrained.load(p) for p in (tmp_path, tmp_path / "model.gguf"))
    np.testing.assert_allclose(scores(folder), scores(file), rtol=1e-5, atol=1e-5)
    assert folder.stop == file.stop == (0,)
    assert folder.decode(folder.encode("b c d")) == "b c d"
    head = folder.variables["params"]["head"]["kernel"]
    np.testing.assert_array_equal(head, tensors["model.embed_tokens.weight"].T)
    half = pretrained.load(tmp_path, dtype=jnp.bfloat16)
    assert {x.dtype for x in jax.tree.leaves(half.variables)} == {jnp.dtype("bfloat16")}
    assert (
        np.abs(scores(half) - scores(folder)).max() < 0.1 * np.abs(scores(folder)).max()
    )


def test_halves_undo_neighbors():
    matrix = np.random.default_rng(0).normal(size=(12, 5))
    np.testing.assert_array_equal(names.halves(neighbors(matrix, 2), 2), matrix)


def test_a_gpt2_folder(tmp_path):
    config = dict(
        model_type="gpt2",
        vocab_size=9,
        n_embd=8,
        n_layer=1,
        n_head=2,
        n_positions=16,
        layer_norm_epsilon=1e-5,
    )
    (tmp_path / "config.json").write_text(json.dumps(config))
    rng, tensors = np.random.default_rng(0), {}
    shapes = {
        "wte": (9, 8),
        "wpe": (16, 8),
        "ln_f": (8,),
        "h.0.ln_1": (8,),
        "h.0.ln_2": (8,),
        "h.0.attn.c_attn": (8, 24),
        "h.0.attn.c_proj": (8, 8),
        "h.0.mlp.c_fc": (8, 32),
        "h.0.mlp.c_proj": (32, 8),
    }
    for name, shape in shapes.items():
        tensors[f"{name}.weight"] = rng.normal(size=shape).astype(np.float32)
        if name not in ("wte", "wpe"):
            tensors[f"{name}.bias"] = rng.normal(size=shape[-1:]).astype(np.float32)
    for prefix in ("", "transformer."):  # a bare model, and one with a head
        named = {prefix + name: x for name, x in tensors.items()}
        safetensors.save_file(named, tmp_path / "model.safetensors")
        language = pretrained.load(tmp_path)
        assert language.tokenizer is None
        assert np.isfinite(scores(language)).all() and scores(language).shape[-1] == 9


def lie(path, change):
    """Rewrites the header of a safetensors file."""
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + size])
    new = json.dumps(change(header)).encode()
    path.write_bytes(struct.pack("<Q", len(new)) + new + raw[8 + size :])


def overlapping(header):
    a, b = [k for k in header if k != "__metadata__"][:2]
    header[b]["data_offsets"] = header[a]["data_offsets"]
    return header


def renamed(header):
    first = next(iter(header))
    return {("x" + k if k == first else k): v for k, v in header.items()}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: lie(p, overlapping), "damaged"),
        (lambda p: lie(p, renamed), "is missing"),
        (lambda p: p.write_bytes(p.read_bytes()[:-7]), "damaged"),
        (lambda p: p.write_bytes(struct.pack("<Q", 2**60) + b"{}"), "damaged"),
        (lambda p: p.write_bytes(b""), "damaged"),
        (lambda p: p.unlink(), r"expected a \*\.safetensors file"),
    ],
)
def test_a_damaged_folder_is_named(tmp_path, damage, message):
    write_llama(tmp_path)
    damage(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=message) as raised:
        pretrained.load(tmp_path)
    assert str(tmp_path) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(model_type="bert"), "expected model_type llama or gpt2, got 'bert'"),
        (dict(hidden_size=32), "expected parameter"),
        (dict(num_hidden_layers=3), "is missing"),
        (dict(rope_scaling={"type": "linear"}), "no rope_scaling"),
    ],
)
def test_a_config_of_another_model_is_named(tmp_path, changes, message):
    write_llama(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        pretrained.load(tmp_path)


def test_a_gguf_file_that_is_not_known_is_named(tmp_path):
    tensors, path = write_llama(tmp_path), tmp_path / "model.gguf"
    write_gguf(path, tensors, architecture="mamba")
    with pytest.raises(ValueError, match="expected architecture llama, got 'mamba'"):
        pretrained.load(path)
    write_gguf(path, tensors, leave_out=("model.norm.weight",))
    with pytest.raises(ValueError, match=r"output_norm.weight' is missing"):
        pretrained.load(path)
    write_gguf(path, tensors)
    whole = path.read_bytes()
    for size in (0, 3, 100, len(whole) // 2, len(whole) - 40):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="damaged GGUF file") as raised:
            pretrained.load(path)
        assert "\n" not in str(raised.value)

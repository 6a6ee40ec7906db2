"""Encoders from a folder and back to one: tokens, batches, layouts, what is refused."""

import dataclasses
import json
import os
import pathlib
import subprocess
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import models
from contrastive_jax.models import pretrained
from contrastive_jax.models.pretrained import encoders, onnx
from contrastive_jax.models.pretrained.encoders import Recipe, TextEncoder
from launch import bench

safetensors = pytest.importorskip("safetensors.numpy")
tokenizers = pytest.importorskip("tokenizers")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"a b c d e f".split()]
TEXTS = ["a b", "c", "d e f a b c d e f", "a f"]


def word_tokenizer():
    """A tokenizer of words between [CLS] and [SEP]."""
    numbers = {word: i for i, word in enumerate(WORDS)}
    kind = tokenizers.models.WordPiece(numbers, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(kind)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return tokenizer


def make_encoder(*, dense=(), pooling=("mean",), classifier=False, **sizes):
    """A small random encoder."""
    model = models.Encoder(
        len(WORDS),
        **(dict(width=8, depth=1, heads=2, mlp_width=12, max_length=16) | sizes),
    )
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(
        lambda key: model.init(key, jnp.zeros((1, 2), int)), jax.random.key(0)
    )["params"]

    def draw(*shape):
        return jnp.asarray(rng.normal(0, 0.5, shape), jnp.float32)

    params = {"encoder": jax.tree.map(lambda x: draw(*x.shape), shapes)}
    width = 8 * len(pooling)
    for i, _ in enumerate(dense):
        params[f"dense_{i}"] = {"kernel": draw(width, 5), "bias": draw(5)}
        width = 5
    if classifier:
        params["pooler"] = {"kernel": draw(8, 8), "bias": draw(8)}
        params["classifier"] = {"kernel": draw(8, 1), "bias": draw(1)}
    recipe = Recipe(model, pooling, dense, normalize=not dense)
    return TextEncoder(recipe, params, word_tokenizer(), 8)


@pytest.fixture(scope="module")
def encoder():
    return make_encoder()


@pytest.fixture(scope="module")
def folder(encoder, tmp_path_factory):
    return pretrained.save_encoder(encoder, tmp_path_factory.mktemp("saved") / "model")


def test_embeddings_are_those_of_the_pure_function(encoder):
    """In the order of the texts, whatever their lengths and batches."""
    with pytest.warns(
        UserWarning, match="1 of 4 texts have more than 8 tokens"
    ) as said:
        got = encoder.encode(encoder.params, TEXTS)
    assert len(said) == 1 and got.shape == (4, 8) and got.dtype == np.float32
    tokenized = encoder.tokenize(TEXTS)
    assert tokenized.cut == 1 and tokenized.tokens[0].tolist() == [2, 5, 6, 3]
    assert tokenized.tokens[2][-1] == 3 and len(tokenized.tokens[2]) == 8
    tokens = encoders.padded(tokenized.tokens, (4, 8))
    where = jnp.arange(8)[None] < jnp.array([len(t) for t in tokenized.tokens])[:, None]
    want = encoder.embed(encoder.params, jnp.asarray(tokens), where)
    np.testing.assert_allclose(got, want, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small = encoder.encode(encoder.params, tokenized, batch_tokens=8)
    np.testing.assert_allclose(small, got, atol=1e-6)


def test_few_shapes():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 257, 3000)
    found = list(encoders.batches(lengths, 4096, 256))
    shapes = {shape for _, shape in found}
    assert len(shapes) <= 18
    rows = np.concatenate([rows for rows, _ in found])
    assert sorted(rows) == list(range(3000))
    for rows, (most, width) in found:
        assert len(rows) <= most and lengths[rows].max() <= width <= 256
        assert most * width <= 4096
    padding = sum(a * b for _, (a, b) in found) / lengths.sum()
    assert padding < 1.15


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a", "", " \n"], "no empty text, got 2 of 3, the first at 1"),
        ([("a", "b"), ("a", " ")], "no empty text, got 1 of 2, the first at 1"),
        ([], "expected a text or more"),
    ],
)
def test_empty_texts(encoder, texts, message):
    with pytest.raises(ValueError, match=message):
        encoder.encode(encoder.params, encoder.tokenize(texts))


def test_a_folder_is_the_encoder(encoder, folder):
    back = pretrained.load_encoder(folder)
    assert back.recipe == encoder.recipe and back.max_tokens == 8
    jax.tree.map(np.testing.assert_array_equal, back.params, encoder.params)
    short = TEXTS[:2]
    got = back.encode(back.params, short)
    np.testing.assert_array_equal(got, encoder.encode(encoder.params, short))
    half = pretrained.load_encoder(folder, param_dtype=jnp.bfloat16)
    assert {x.dtype for x in jax.tree.leaves(half.params)} == {jnp.dtype("bfloat16")}
    assert half.recipe.model.dtype == jnp.float32


CASES = {
    "dense": dict(dense=("Tanh",), pooling=("mean", "max")),
    "roberta": dict(first_position=2, num_types=1, max_length=14),
    "deberta": dict(
        content_to_position=True,
        position_to_content=True,
        shared=True,
        distance_norm=True,
        positions=False,
        num_types=0,
        position_buckets=4,
    ),
    "cross": dict(classifier=True),
}


@pytest.mark.parametrize("name", CASES)
def test_every_layout_there_and_back(name, tmp_path):
    made = make_encoder(**CASES[name])
    made = dataclasses.replace(made, prompt="" if name == "cross" else "query: ")
    back = pretrained.load_encoder(pretrained.save_encoder(made, tmp_path / "m"))
    assert back.recipe == made.recipe and back.prompt == made.prompt
    jax.tree.map(np.testing.assert_array_equal, back.params, made.params)
    assert not (tmp_path / "m" / "modules.json").exists() or name != "cross"


def test_pairs_are_scored():
    made = make_encoder(classifier=True)
    got = made.score(made.params, [("a", "b c"), ("a", "b c"), ("b c", "a")])
    assert got.shape == (3, 1) and got[0] == got[1] != got[2]
    with pytest.raises(ValueError, match="this is no cross-encoder"):
        made.score({"encoder": made.params["encoder"]}, [("a", "b")])


def test_the_card_is_made_of_the_record(encoder, tmp_path):
    record = dict(
        experiment="simcse",
        variant="",
        seed=3,
        metrics={"lee/spearman": 0.51234},
        versions={"jax": "0.12"},
        machine={"device": "cpu"},
        config={"optim": {"learning_rate": 1e-3}},
    )
    (tmp_path / "result.json").write_text(json.dumps(record))
    folder = pretrained.save_encoder(encoder, tmp_path / "new", record=tmp_path)
    card = (folder / "README.md").read_text()
    for words in (
        "simcse:default",
        "seed 3",
        "| lee/spearman | 0.5123 |",
        "jax | 0.12",
    ):
        assert words in card
    with pytest.raises(ValueError, match="expected a new or empty one"):
        pretrained.save_encoder(encoder, folder)
    with pytest.raises(ValueError, match=r"record: expected result\.json"):
        pretrained.save_encoder(encoder, tmp_path / "other", record=folder)
    with pytest.raises(ValueError, match=r"other are .*'norm'"):
        params = {"encoder": {**encoder.params["encoder"], "norm": {}}}
        pretrained.save_encoder(encoder, tmp_path / "other", params=params)
    assert not (tmp_path / "other").exists()


def change(name, **changes):
    def damage(folder):
        file = folder / name
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return damage


def write(name, text):
    return lambda folder: (folder / name).write_text(text)


DAMAGE = [
    (lambda p: (p / "config.json").unlink(), "config.json: expected a JSON file"),
    (change("config.json", model_type="gpt2"), "expected model_type bert, roberta"),
    (change("config.json", hidden_act="swish"), "expected hidden_act gelu"),
    (change("config.json", conv_kernel_size=3), "conv_kernel_size 3 is not known"),
    (change("config.json", hidden_size=16), "other shapes than config.json has"),
    (change("config.json", num_hidden_layers=2), r"lacks encoder.layer.1.*bias, enc"),
    (write("tokenizer.json", "{}"), "expected a tokenizer"),
    (write("model.safetensors", "x"), "damaged"),
    (write("modules.json", "{}"), "expected a list of objects"),
    (write("modules.json", '[{"type": "x.WKPooling"}]'), "got WKPooling"),
    (write("1_Pooling/config.json", '{"pooling_mode": "weightedmean"}'), "got weight"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_what_is_wrong_is_named_in_one_line(encoder, tmp_path, damage, message):
    folder = pretrained.save_encoder(encoder, tmp_path / "m")
    damage(folder)
    with pytest.raises(ValueError, match=message) as raised:
        pretrained.load_encoder(folder)
    assert "\n" not in str(raised.value) and str(folder) in str(raised.value)


def test_the_classifier_of_a_deberta(tmp_path):
    """Its pooler is not a BERT's, whose scores would be wrong."""
    terms = dict(content_to_position=True, position_to_content=True, num_types=0)
    made = make_encoder(classifier=True, **terms)
    place = pretrained.save_encoder(made, tmp_path / "model")
    with pytest.raises(ValueError, match="the classifier of a DeBERTa is not known"):
        pretrained.load_encoder(place)


def test_no_folder():
    with pytest.raises(ValueError, match=r"expected a folder with config\.json, got"):
        pretrained.load_encoder("none/such")


@pytest.mark.slow
@pytest.mark.skipif("BENCH_PEER" not in os.environ, reason="no BENCH_PEER")
def test_sentence_transformers_embeds_as_we_do(tmp_path):
    """Every layout, loaded by the interpreter that BENCH_PEER names."""
    pairs, texts = [["a", "b c"], ["d e f", "a"]], TEXTS
    made = {name: make_encoder(**sizes) for name, sizes in CASES.items()}
    made |= {name: make_encoder(pooling=(name,)) for name in ("cls", "max", "sqrt")}
    made["two"] = make_encoder(pooling=("cls", "max", "mean"))
    made["prompt"] = dataclasses.replace(make_encoder(), prompt="a b ")
    check = []
    for name, encoder in made.items():
        pretrained.save_encoder(encoder, tmp_path / name)
        check.append([str(tmp_path / name), pairs if name == "cross" else texts])
    (tmp_path / "job.json").write_text(json.dumps({"check": check}))
    script = pathlib.Path(bench.__file__).with_name("sbert_peer.py")
    done = subprocess.run(
        [os.environ["BENCH_PEER"], str(script), str(tmp_path)],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    found = json.loads(done.stdout.splitlines()[-1])
    for (name, encoder), theirs in zip(made.items(), found, strict=True):
        if name == "cross":
            ours = encoder.score(encoder.params, [tuple(p) for p in pairs])[:, 0]
        else:
            ours = encoder.encode(encoder.params, encoder.tokenize(texts))
        np.testing.assert_allclose(ours, theirs, atol=2e-6, err_msg=name)


# ONNX


def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def tensor(name, x):
    kinds = {"float32": 1, "uint8": 2, "int8": 3}
    message = b"".join(field(1, n) for n in x.shape) + field(2, kinds[x.dtype.name])
    return field(5, message + field(8, name) + field(9, x.tobytes()))


def onnx_file(path):
    """Two matrices as quantizers write them, and one vector."""
    q = np.arange(-3, 3, dtype=np.int8).reshape(2, 3)
    parts = [
        tensor("onnx::MatMul_7_quantized", q),
        tensor("onnx::MatMul_7_scale", np.float32(0.5).reshape(())),
        tensor("onnx::MatMul_7_zero_point", np.int8(1).reshape(())),
        tensor("table_quantized", (q + 3).astype(np.uint8)),
        tensor("table_scale", np.float32(2).reshape(())),
        tensor("table_zero_point", np.uint8(0).reshape(())),
        tensor("bias", np.float32([1, 2, 3])),
    ]
    node = field(1, "x_quantized") + field(1, "onnx::MatMul_7_quantized")
    node += field(2, "/layer.0/dense/MatMul_output_0_quantized")
    parts.append(field(1, node + field(4, "MatMulInteger")))
    path.write_bytes(field(1, 8) + field(7, b"".join(parts)))
    return q


def test_onnx_weights(tmp_path):
    file = tmp_path / "model.onnx"
    q = onnx_file(file)
    got = onnx.tensors(file)
    assert got.keys() == {"layer.0.dense.weight", "table", "bias"}
    np.testing.assert_array_equal(got["layer.0.dense.weight"], 0.5 * (q.T - 1.0))
    np.testing.assert_array_equal(got["table"], 2.0 * (q + 3))
    np.testing.assert_array_equal(got["bias"], [1, 2, 3])
    whole = file.read_bytes()
    for size in (0, 5, len(whole) // 2, len(whole) - 3):
        file.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="damaged ONNX file"):
            onnx.tensors(file)


# The packaged models

REAL = np.load(pathlib.Path(__file__).with_name("real_encoders.npz"))


@pytest.mark.slow
@pytest.mark.network
def test_the_real_minilm_and_cross_encoder():
    """Equal to sentence-transformers and transformers; near to onnxruntime."""
    from contrastive_jax.data import sentences

    minilm = pretrained.load_encoder(sentences.model("minilm"))
    got = minilm.encode(minilm.params, json.loads(str(REAL["texts"])))
    np.testing.assert_allclose(got, REAL["minilm"], atol=1e-4)
    cross = pretrained.load_encoder(sentences.model("reranker"))
    pairs = [tuple(pair) for pair in json.loads(str(REAL["pairs"]))]
    got = cross.score(cross.params, pairs)
    np.testing.assert_allclose(got, REAL["reranker"], atol=1e-4)
    # The graph in the file also rounds what goes into each product to 8 bits.
    np.testing.assert_allclose(got, REAL["reranker_onnxruntime"], atol=0.5)

"""Models of images from folders and back: what transformers computes, names, errors."""

import json
import os
import pathlib
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import models
from contrastive_jax.models import pretrained
from contrastive_jax.models.pretrained import vision
from tests.models import vision_reference as reference

safetensors = pytest.importorskip("safetensors.numpy")
KNOWN = np.load(pathlib.Path(__file__).with_name("vision.npz"))


def write(folder, name, prefix="", **changes):
    """The folder of a case as it is published; `changes` replace or remove tensors."""
    folder.mkdir()
    config = json.loads(str(KNOWN[f"{name}/config"]))
    (folder / "config.json").write_text(json.dumps(config))
    shapes = json.loads(str(KNOWN[f"{name}/shapes"]))
    tensors = {k: reference.draw(k, tuple(s)) for k, s in shapes.items()} | changes
    tensors = {f"{prefix}{k}": x for k, x in tensors.items() if x is not None}
    safetensors.save_file(tensors, folder / "model.safetensors")
    return folder


def outputs(loaded):
    """What our module makes of the images and tokens of the reference."""
    model, variables = loaded.model, loaded.variables
    images = reference.IMAGES[loaded.image_shape[0] or 32]
    if not isinstance(model, models.TwoTowers):
        return [jax.jit(lambda x: model.apply(variables, x, train=False))(images)]
    image, text = jax.jit(model.apply)(variables, images, reference.TOKENS)
    logits = np.exp(loaded.loss["log_scale"]) * image @ text.T
    return [image, text, logits + loaded.loss.get("bias", 0.0)]


@pytest.mark.parametrize("name", reference.CASES)
def test_features_are_those_of_transformers(name, tmp_path):
    """From a file in its layout; written and read again, every number is the same."""
    loaded = pretrained.load_vision(write(tmp_path / "there", name))
    for i, found in enumerate(outputs(loaded)):
        np.testing.assert_allclose(found, KNOWN[f"{name}/{i}"], 1e-6, 1e-5)
    shape = [8, 8, 3] if "resnet" not in name else [0, 0, 3]
    assert list(loaded.image_shape) == shape
    folder = pretrained.save_vision(
        loaded.model, loaded.variables, tmp_path / "back", loss=loaded.loss
    )
    again = pretrained.load_vision(folder)
    assert again.model == loaded.model and again.image_shape == loaded.image_shape
    pairs = (again.variables, again.loss), (loaded.variables, loaded.loss)
    jax.tree.map(np.testing.assert_array_equal, *pairs)
    shapes = json.loads(str(KNOWN[f"{name}/shapes"]))
    with vision.Tensors(folder) as tensors:
        written = {k: list(tensors(k).shape) for k in tensors.places}
    written = {k: s for k, s in written.items() if not k.endswith(vision.COUNTER)}
    assert written == {k: s for k, s in shapes.items() if "pooler" not in k}


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_a_model_with_a_classifier(name, tmp_path):
    """Its names begin with that of the encoder, and the classifier is left out."""
    plain = pretrained.load_vision(write(tmp_path / "plain", name))
    folder = write(tmp_path / "classifier", name, prefix=f"{name}.")
    head = {"vit": "classifier", "resnet": "classifier.1"}[name]
    more = {f"{head}.weight": np.ones((2, 8)), f"{head}.bias": np.ones(2)}
    safetensors.save_file(more, folder / "more.safetensors")
    other = pretrained.load_vision(folder)
    jax.tree.map(np.testing.assert_array_equal, other.variables, plain.variables)


def test_every_wrong_tensor_is_named(tmp_path):
    place = "embeddings.position_embeddings"
    changes = {"layernorm.bias": None, "embeddings.cls_token": None}
    more = {"other.weight": np.ones(2, np.float32), "a": np.ones(1, np.float32)}
    folder = write(tmp_path / "names", "vit", **changes, **more)
    message = "lacks embeddings.cls_token, layernorm.bias and has a, other.weight in"
    with pytest.raises(ValueError, match=message):
        pretrained.load_vision(folder)
    changes = {place: np.ones((1, 9, 8), np.float32)}
    changes["layernorm.weight"] = np.ones(9, np.float32)
    folder = write(tmp_path / "shapes", "vit", **changes)
    with pytest.raises(ValueError, match=r"place \[1, 9, 8\] .*scale \[9\] \(\[8\]\)"):
        pretrained.load_vision(folder)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("vit", {"model_type": "swin"}, "expected model_type vit, resnet, clip"),
        ("vit", {"hidden_act": "silu"}, "expected hidden_act gelu, .* got 'silu'"),
        ("vit", {"image_size": 9}, "an image_size that patch_size 4 divides, got 9"),
        ("vit", {"patch_size": 0}, "a setting is missing or wrong"),
        ("vit", {"qkv_bias": False}, "expected qkv_bias true"),
        ("resnet", {"layer_type": "x"}, "expected layer_type basic or bottleneck"),
        ("resnet", {"hidden_sizes": [16, 48]}, r"hidden_sizes \[16, 32\], got \[16, 4"),
        (
            "resnet",
            {"downsample_in_bottleneck": True},
            "downsample_in_bottleneck False",
        ),
        ("clip", {"vision_config": {"image_size": [8]}}, r"an image_size .* got \[8\]"),
    ],
)
def test_settings_that_are_not_known(name, changes, message, tmp_path):
    folder = write(tmp_path / "m", name)
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(ValueError, match=message) as error:
        pretrained.load_vision(folder)
    assert str(file) in str(error.value)


def test_defaults_of_published_configs():
    """Configs leave out what is as in the first model of their kind."""

    def made(kind, **config):
        return vision.make_model(config, kind, jnp.float32)

    clip = models.TwoTowers(
        models.Vit(32, activation="quick_gelu", epsilon=1e-5),
        models.TextTower(
            49_408,
            pad=None,
            end=49_407,
            max_length=77,
            activation="quick_gelu",
            epsilon=1e-5,
        ),
        512,
    )
    assert made("clip") == (clip, (224, 224, 3))
    old = made(
        "clip", text_config={"eos_token_id": 2}, vision_config={"patch_size": 32}
    )
    assert old == (clip, (224, 224, 3))
    own = dict(pre_norm=False, patch_bias=True)
    tanh = "gelu_pytorch_tanh"
    siglip = models.TwoTowers(
        models.Vit(16, pool="attention", activation=tanh, **own),
        models.TextTower(
            32_000,
            768,
            12,
            12,
            causal=False,
            pool="last",
            pad=None,
            end=0,
            max_length=64,
            activation=tanh,
        ),
        768,
        map_image=False,
        text_bias=True,
    )
    assert made("siglip") == (siglip, (224, 224, 3))
    vit = models.Vit(activation="gelu", epsilon=1e-12, **own)
    assert made("vit") == (vit, (224, 224, 3))
    resnet = models.Resnet(models.DEPTHS[50][0], 64, "bottleneck", "imagenet")
    assert made("resnet") == (resnet, (0, 0, 3))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (models.Resnet(), "stem: expected 'imagenet' .*, got 'cifar'"),
        (models.Resnet(stem="imagenet", norm="group"), "norm: expected 'batch'"),
        (models.Vit(), "pre_norm: expected False"),
        (
            models.Mlp((2,)),
            "expected a Vit, a Resnet or a TwoTowers with a Vit, got Mlp",
        ),
        (
            models.TwoTowers(models.Vit(), models.TextTower(9), 4),
            "text.end: expected another id than 2",
        ),
        (
            models.TwoTowers(models.Vit(), models.TextTower(9, pool="mean"), 4),
            "text.pool: expected 'end'",
        ),
    ],
)
def test_what_no_layout_has(model, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        pretrained.save_vision(model, {}, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_saving_refuses_and_leaves_nothing(tmp_path):
    loaded = pretrained.load_vision(write(tmp_path / "m", "resnet"))
    with pytest.raises(ValueError, match="folder: expected a new or empty one"):
        pretrained.save_vision(loaded.model, loaded.variables, tmp_path / "m")
    with pytest.raises(ValueError, match="variables: expected those of the model"):
        pretrained.save_vision(loaded.model, {"params": {}}, tmp_path / "n")
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_card_of_a_run(tmp_path):
    loaded = pretrained.load_vision(write(tmp_path / "m", "clip"))
    record = {"experiment": "clip", "variant": "paper", "config": {"seed": 3}}
    record |= {"metrics": {"recall": 0.51234}, "method": "clip", "step": 7}
    folder = pretrained.save_vision(
        loaded.model, loaded.variables, tmp_path / "n", loss=loaded.loss, record=record
    )
    card = (folder / "README.md").read_text()
    for words in (
        "CLIPModel for images of 8 x 8 pixels and 3 channels, values in [0, 1].",
        "`launch/run clip:paper`, seed 3, training `clip`, 7 steps",
        "| recall | 0.5123 |",
        'method="encode_image"',
    ):
        assert words in card


def test_arrays_by_their_paths(tmp_path):
    tree = {"a": {"b": np.arange(3), "c": [np.float32(2.5)]}, "d": jnp.ones((2, 1))}
    folder = pretrained.save_arrays(tree, tmp_path / "m", config={"width": 1})
    found = pretrained.load_arrays(folder)
    want = {"a": {"b": np.arange(3), "c": {"0": np.float32(2.5)}}, "d": np.ones((2, 1))}
    jax.tree.map(np.testing.assert_array_equal, found, want)
    assert json.loads((folder / "config.json").read_text()) == {"width": 1}
    with pytest.raises(ValueError, match="tree: expected an array or more"):
        pretrained.save_arrays({}, tmp_path / "n", config={})


def test_a_program_runs_without_its_source(tmp_path, without_type_hooks):
    """For other numbers of rows, with the weights that it held, as one file.

    Sizes that are chosen later are no int, as the hooks want them.
    """
    model = models.Vit(4, 8, 1, 2, pool="attention")
    images = reference.IMAGES[8]
    variables = jax.jit(model.init, static_argnames="train")(
        jax.random.key(0), images, train=False
    )

    @jax.jit
    def encode(x):
        return model.apply(variables, x, train=False)

    inputs = {"image": ("b, 8, 8, 3", "float32")}
    folder = pretrained.save_program(encode, inputs, tmp_path / "m")
    program = pretrained.load_program(folder)
    for rows in (images, images[:1]):
        np.testing.assert_allclose(program(rows), encode(rows), atol=1e-6)
    assert "image float32[b, 8, 8, 3] to f32[b,8]" in (folder / "README.md").read_text()
    with pytest.raises(ValueError, match=r"Shape mismatch|dimension"):
        program(reference.IMAGES[32])
    (folder / "model.stablehlo").write_bytes(b"none")
    with pytest.raises(ValueError, match=r"model.stablehlo: expected a program"):
        pretrained.load_program(folder)
    with pytest.raises(ValueError, match=r"expected format jax.export"):
        pretrained.load_program(write(tmp_path / "other", "vit"))


@pytest.mark.slow
@pytest.mark.skipif("BENCH_PEER" not in os.environ, reason="no BENCH_PEER")
def test_transformers_reads_what_we_write(tmp_path):
    """Every layout, loaded by the interpreter that BENCH_PEER names."""
    folders, want = [], []
    for name in reference.CASES:
        loaded = pretrained.load_vision(write(tmp_path / name, name))
        folders.append(tmp_path / f"{name}_back")
        pretrained.save_vision(
            loaded.model, loaded.variables, folders[-1], loss=loaded.loss
        )
        want.append(outputs(loaded))
    done = subprocess.run(
        [os.environ["BENCH_PEER"], reference.__file__, *map(str, folders)],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    found = json.loads(done.stdout.splitlines()[-1])
    for ours, theirs in zip(want, found, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, 1e-6, 1e-5)

"""Weights of BERT, RoBERTa and DeBERTa files, by name, as parameters and back again.

One table says where each tensor of a file has its place, so that what is read is what
is written, and what a folder lacks or has in excess is known by name.
"""

import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from contrastive_jax.models.encoder import Encoder

# What files of pretrained models hold besides, and nothing here needs.
IGNORED = (
    "embeddings.position_ids",
    "cls.seq_relationship.weight",
    "cls.seq_relationship.bias",
    "cls.predictions.decoder.weight",
    "cls.predictions.decoder.bias",
    "lm_head.decoder.weight",
    "lm_head.decoder.bias",
)
PREFIXES = ("bert.", "roberta.", "deberta.")


class Place(NamedTuple):
    """Where a tensor stands among the parameters.

    Attributes:
      path: names from the top, as ("block_0", "up", "kernel").
      part: which of several tensors that lie side by side in one parameter.
      parts: how many.
      matrix: whether it is stored as [out, in] and used as [in, out]; of a convolution,
        as [out, in, h, w] and [h, w, in, out].
      shape: of the tensor in the file, where it is not that of the parameter; -1 once.
    """

    path: tuple[str, ...]
    part: int = 0
    parts: int = 1
    matrix: bool = False
    shape: tuple[int, ...] | None = None


Places = dict[str, Place]


def dense(name: str, *path: str, part: int = 0, parts: int = 1) -> Places:
    """Places of a linear layer."""
    return {
        f"{name}.weight": Place((*path, "kernel"), part, parts, True),
        f"{name}.bias": Place((*path, "bias"), part, parts),
    }


def norm(name: str, *path: str) -> Places:
    """Places of a normalization."""
    return {
        f"{name}.weight": Place((*path, "scale")),
        f"{name}.bias": Place((*path, "bias")),
    }


def encoder_places(model: Encoder) -> Places:
    """Places of an encoder's tensors in `params["encoder"]`."""
    places = {"embeddings.word_embeddings.weight": Place(("token", "embedding"))}
    if model.positions:
        places["embeddings.position_embeddings.weight"] = Place(("position",))
    if model.num_types:
        places["embeddings.token_type_embeddings.weight"] = Place(("type",))
    places |= norm("embeddings.LayerNorm", "norm")
    if model.relative:
        places["encoder.rel_embeddings.weight"] = Place(("distance",))
        if model.distance_norm:
            places |= norm("encoder.LayerNorm", "distance_norm")
    suffix = "_proj" if model.relative else ""
    for i in range(model.depth):
        at, block = f"encoder.layer.{i}.", f"block_{i}"
        inside, own = f"{at}attention.self.", (block, "attention")
        for part, name in enumerate(("query", "key", "value")):
            places |= dense(f"{inside}{name}{suffix}", *own, "qkv", part=part, parts=3)
        if model.content_to_position and not model.shared:
            places |= dense(f"{inside}pos_key_proj", *own, "position_key")
        if model.position_to_content and not model.shared:
            places |= dense(f"{inside}pos_query_proj", *own, "position_query")
        places |= dense(f"{at}attention.output.dense", *own, "out")
        places |= norm(f"{at}attention.output.LayerNorm", block, "norm_1")
        places |= dense(f"{at}intermediate.dense", block, "up")
        places |= dense(f"{at}output.dense", block, "down")
        places |= norm(f"{at}output.LayerNorm", block, "norm_2")
    return {name: p._replace(path=("encoder", *p.path)) for name, p in places.items()}


def head_places(kind: str) -> list[Places]:
    """Places of what may stand on an encoder; of each all tensors are there, or none.

    The pooler and the classifier of one text or pair, and the head of a masked language
    model.

    Args:
      kind: "bert", "roberta" or "deberta-v2".
    """
    if kind == "roberta":
        pair = dense("classifier.dense", "pooler")
        pair |= dense("classifier.out_proj", "classifier")
        masked = dense("lm_head.dense", "head", "dense")
        masked |= norm("lm_head.layer_norm", "head", "norm")
        masked["lm_head.bias"] = Place(("head", "bias"))
        return [dense("pooler.dense", "pooler"), pair, masked]
    masked = dense("cls.predictions.transform.dense", "head", "dense")
    masked |= norm("cls.predictions.transform.LayerNorm", "head", "norm")
    masked["cls.predictions.bias"] = Place(("head", "bias"))
    return [
        dense("pooler.dense", "pooler"),
        dense("classifier", "classifier"),
        masked,
    ]


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """Names as in the file by names without the prefix of a model with a head."""
    out = {}
    for name in names:
        short = name
        for prefix in PREFIXES:
            short = short.removeprefix(prefix)
        short = short.replace("LayerNorm.gamma", "LayerNorm.weight")  # before 2019
        short = short.replace("LayerNorm.beta", "LayerNorm.bias")
        out[short] = name
    return out


def read_params(
    tensors: Mapping[str, np.ndarray], model: Encoder, kind: str, path: pathlib.Path
) -> dict[str, Any]:
    """Parameters of an encoder, and of what stands on it, from the tensors of a file.

    Args:
      tensors: read by name; a mapping that reads where it is asked will do.
      model: the module.
      kind: "bert", "roberta" or "deberta-v2".
      path: of the file, for what is said of it.

    Raises:
      ValueError: names all tensors that are missing, all that have no place, and all of
        another shape.
    """
    names = plain_names(tensors)
    places = encoder_places(model)
    for group in head_places(kind):
        if any(name in names for name in group):
            places |= group
    check_names(names, places, IGNORED, path)
    return nest(gather(tensors, names, places))


def check_names(
    names: Iterable[str],
    places: Places,
    ignored: Iterable[str],
    path: str | pathlib.Path,
) -> None:
    """Raises ValueError, naming all tensors that are missing or have no place."""
    missing = sorted(places.keys() - {*names})
    excess = sorted({*names} - places.keys() - {*ignored})
    if missing or excess:
        parts = [f"lacks {', '.join(missing)}"] if missing else []
        parts += [f"has {', '.join(excess)} in excess"] if excess else []
        raise ValueError(f"{path}: {' and '.join(parts)}")


def gather(
    tensors: Mapping[str, np.ndarray], names: Mapping[str, str], places: Places
) -> dict[tuple[str, ...], np.ndarray]:
    """Parameters by path, from tensors whose names in the file are given."""
    pieces: dict[tuple[str, ...], list[Any]] = {}
    for name, place in places.items():
        x = tensors[names[name]]
        row = pieces.setdefault(place.path, [None] * place.parts)
        row[place.part] = used(x) if place.matrix else x
    return {
        path: np.ascontiguousarray(np.concatenate(row, axis=-1))
        if len(row) > 1
        # A transposed view is no array that others may keep.
        else np.ascontiguousarray(row[0])
        for path, row in pieces.items()
    }


def used(x: np.ndarray) -> np.ndarray:
    """A matrix or convolution of a file as it is used: [in, out] or [h, w, in, out]."""
    return x.T if x.ndim == 2 else x.transpose(2, 3, 1, 0)


def stored(x: np.ndarray) -> np.ndarray:
    """The inverse of `used`."""
    return x.T if x.ndim == 2 else x.transpose(3, 2, 0, 1)


def take(params: Any, place: Place) -> np.ndarray:
    """The tensor of a file that stands at a place: what `gather` reads."""
    x = params
    for key in place.path:
        x = x[key]
    x = np.asarray(x)
    if place.parts > 1:
        x = np.split(x, place.parts, axis=-1)[place.part]
    x = stored(x) if place.matrix else x
    x = x if place.shape is None else x.reshape(place.shape)
    return np.asarray(x, order="C")  # a scalar stays one


def write_tensors(params: Any, model: Encoder, kind: str) -> dict[str, np.ndarray]:
    """The tensors of a file by name: what `read_params` reads.

    Names have the prefix of a model with a head when there is one.
    """
    places, prefix = encoder_places(model), ""
    for group in head_places(kind):
        if all(p.path[0] in params for p in group.values()):
            places |= group
    if kind == "roberta" and "classifier" in params:  # its pooler is the classifier's
        places = {k: p for k, p in places.items() if not k.startswith("pooler.")}
    if "classifier" in params or "head" in params:
        prefix = {"deberta-v2": "deberta."}.get(kind, f"{kind}.")
    out = {}
    for name, place in places.items():
        inside = name.startswith(("embeddings.", "encoder.", "pooler."))
        out[f"{prefix}{name}" if inside else name] = take(params, place)
    return out


def nest(flat: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    """A tree from values by path.

    Examples:
      >>> nest({("a", "b"): 1, ("a", "c"): 2})
      {'a': {'b': 1, 'c': 2}}
    """
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        node = tree
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = value
    return tree


def deberta_v2_tensors(
    tensors: Mapping[str, np.ndarray], heads: int
) -> dict[str, np.ndarray]:
    """The tensors of a first-version DeBERTa, named and cut as those of the second.

    It has queries, keys and values of a head after each other in one matrix, no bias
    for keys, and none for the keys of positions.
    """
    out = {}
    for short, name in plain_names(tensors).items():
        x = tensors[name]
        at, _, last = short.rpartition("attention.self.")
        if (at == "" and last == short) or not at:
            out[short] = x
        elif last == "in_proj.weight":
            size, width = x.shape[0] // heads // 3, x.shape[1]
            by_head = x.reshape(heads, 3, size, width)
            for i, part in enumerate(("query", "key", "value")):
                rows = by_head[:, i].reshape(-1, width)
                out[f"{at}attention.self.{part}_proj.weight"] = rows
        elif last in ("q_bias", "v_bias"):
            part = {"q": "query", "v": "value"}[last[0]]
            out[f"{at}attention.self.{part}_proj.bias"] = x
            out[f"{at}attention.self.key_proj.bias"] = np.zeros_like(x)
        elif last == "pos_proj.weight":
            out[f"{at}attention.self.pos_key_proj.weight"] = x
            out[f"{at}attention.self.pos_key_proj.bias"] = np.zeros_like(x[:, 0])
        else:
            out[short.replace("pos_q_proj", "pos_query_proj")] = x
    return out

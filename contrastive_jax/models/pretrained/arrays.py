"""Trees of arrays as a safetensors file, for models that have no published layout.

    save_arrays(variables, "path/to/folder", config={"width": 16}, record="runs/mine")
    variables = load_arrays("path/to/folder")

A name is the path of an array: "params/encoder/Conv_0/kernel".
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from contrastive_jax.models.pretrained import folders
from contrastive_jax.models.pretrained.encoder_names import nest
from contrastive_jax.models.pretrained.loading import Tensors


def save_arrays(
    tree: Mapping[str, Any],
    folder: str | pathlib.Path,
    *,
    config: Mapping[str, Any],
    record: str | pathlib.Path | Mapping[str, Any] | None = None,
) -> pathlib.Path:
    """Writes model.safetensors, config.json and a model card.

    The folder appears whole or not at all.

    Args:
      tree: arrays, in dicts of dicts (or lists).
      folder: where to; it must not be there, or be empty.
      config: what config.json says.
      record: of the run that made them: result.json, the folder it lies in, or its
        content. None for a card without.

    Raises:
      ValueError: a folder with something in it, or a tree without arrays.
    """
    folder = folders.check_new(folder)
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    tensors = {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(x, order="C")
        for path, x in leaves
    }
    if not tensors:
        raise ValueError("tree: expected an array or more, got none")
    count = sum(x.size for x in tensors.values())
    about = f"{len(tensors)} arrays of {count:,} numbers, by their paths."
    code = "from contrastive_jax.models import pretrained\n\n"
    code += 'variables = pretrained.load_arrays("FOLDER")'
    header = {"library_name": "contrastive_jax"}
    known = folders.read_record(record)
    card = folders.model_card(folder.name, about, [code], known, header)
    files = {"config.json": dict(config)}
    folders.write_folder(folder, files, {"": tensors}, card)
    return folder


def load_arrays(folder: str | pathlib.Path) -> dict[str, Any]:
    """The arrays of a folder as dicts of dicts; what was a list has keys "0", "1".

    Raises:
      ValueError: no *.safetensors file, or a damaged one.
    """
    with Tensors(pathlib.Path(folder)) as tensors:
        return nest({tuple(n.split("/")): tensors(n) for n in tensors.places})

"""Functions of arrays as StableHLO, to be run where their source is not.

    save_program(encode, {"image": ("b, 28, 28, 1", "float32")}, "path/to/folder")
    encode = load_program("path/to/folder")
    features = encode(images)  # any number of rows

The file (`jax.export`) holds the weights; it is compiled for each new shape, by any
later jax within the promises of compatibility of that module.
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp

from contrastive_jax.models.pretrained import folders
from contrastive_jax.models.pretrained.loading import read_json

FILE = "model.stablehlo"
FORMAT = "jax.export"
PLATFORMS = ("cpu", "cuda", "tpu")


def save_program(
    function: Callable[..., jax.Array],
    inputs: Mapping[str, tuple[str, str]],
    folder: str | pathlib.Path,
    *,
    constraints: Sequence[str] = (),
    platforms: Sequence[str] = PLATFORMS,
    record: str | pathlib.Path | Mapping[str, Any] | None = None,
) -> pathlib.Path:
    """Writes model.stablehlo, config.json and a model card.

    The folder appears whole or not at all.

    Args:
      function: of arrays, without keywords; what it holds besides becomes constants.
      inputs: shape and dtype of each argument, {"tokens": ("b, t", "int32")}; letters
        stand for sizes that are chosen later, the same letter for the same.
      folder: where to; it must not be there, or be empty.
      constraints: on such sizes, ("t <= 128",).
      platforms: those it is made for.
      record: of the run that made it: result.json, the folder it lies in, or its
        content. None for a card without.

    Raises:
      ValueError: a folder with something in it.
    """
    folder = folders.check_new(folder)
    scope = jax.export.SymbolicScope(constraints)
    arguments = [
        jax.ShapeDtypeStruct(jax.export.symbolic_shape(s, scope=scope), jnp.dtype(d))
        for s, d in inputs.values()
    ]
    program = jax.export.export(jax.jit(function), platforms=platforms)(*arguments)
    data = program.serialize()
    config = {
        "format": FORMAT,
        "inputs": {name: list(spec) for name, spec in inputs.items()},
        "constraints": list(constraints),
        "outputs": [x.str_short(short_dtypes=True) for x in program.out_avals],
        "platforms": list(platforms),
        "jax": jax.__version__,
    }
    about = f"A program of {len(data):,} bytes for {', '.join(platforms)}: "
    about += f"{', '.join(f'{n} {d}[{s}]' for n, (s, d) in inputs.items())} to "
    about += f"{', '.join(config['outputs'])}."
    names = ", ".join(inputs)
    ours = "from contrastive_jax.models import pretrained\n\n"
    ours += f'out = pretrained.load_program("FOLDER")({names})'
    theirs = "import pathlib\n\nfrom jax import export\n\n"
    theirs += f'data = pathlib.Path("FOLDER/{FILE}").read_bytes()\n'
    theirs += f"out = export.deserialize(data).call({names})"

    def add_program(place):
        (place / FILE).write_bytes(data)

    header = {"library_name": "jax"}
    known = folders.read_record(record)
    card = folders.model_card(folder.name, about, [ours, theirs], known, header)
    folders.write_folder(folder, {"config.json": config}, {}, card, add_program)
    return folder


def load_program(folder: str | pathlib.Path) -> Callable[..., jax.Array]:
    """The function of a folder that `save_program` wrote.

    Raises:
      ValueError: another folder, or a damaged file.
    """
    folder = pathlib.Path(folder)
    config = read_json(folder / "config.json")
    if config.get("format") != FORMAT:
        raise ValueError(f"{folder}: expected format {FORMAT}, got {config}")
    try:
        data = (folder / FILE).read_bytes()
        program = jax.export.deserialize(bytearray(data))
    except Exception as e:  # of the flat buffer
        raise ValueError(f"{folder / FILE}: expected a program ({e})") from e
    return jax.jit(program.call)

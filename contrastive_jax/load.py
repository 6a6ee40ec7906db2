"""A run, over or going on, opened again: its config, its state and its encoder.

    from contrastive_jax import load_run

    run = load_run("runs/simclr/default-seed0")
    features = run.encode(images)  # [n, h, w, c] uint8, or floats in [0, 1]
    run.save("path/to/folder")  # safetensors, config.json and a model card

Nothing is written, renamed or removed in the folder of the run. The experiment itself
is code of the repository (experiments/), which an installed package does not hold.
"""

import dataclasses
import functools
import importlib
import json
import pathlib
import pkgutil
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from contrastive_jax.models import EncoderWithHead, pretrained
from contrastive_jax.models.pretrained import TextEncoder, folders, vision
from contrastive_jax.report import record
from contrastive_jax.training import checkpoint
from contrastive_jax.training import config as configs
from contrastive_jax.training.runs import CONFIG

ROOT = pathlib.Path(__file__).resolve().parent.parent


class LoadError(Exception):
    """A folder cannot be opened as a run; the message says why."""


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run has left in its folder.

    Attributes:
      workdir: the folder.
      experiment: the experiment's module: its `make_model`, `batches` and so on.
      method: which of its trainings this is: a method, a baseline, a stage.
      config: the config of that training.
      state: the state of the newest checkpoint.
      step: the number of its steps.
      encoder: what the experiment's `encode(config, state)` gives: a function from
        images in [0, 1] to features, or a `TextEncoder`; None where it has none.
      record: config.json of the run and, when it is over, result.json; with "method",
        "step" and "config" of this training.
    """

    workdir: pathlib.Path
    experiment: types.ModuleType
    method: str
    config: ml_collections.ConfigDict
    state: Any
    step: int
    encoder: Any
    record: Mapping[str, Any]

    def encode(self, inputs: Sequence[str] | np.ndarray, *, batch: int = 500):
        """Features of images or texts, in their order, [n, d] float32.

        Args:
          inputs: texts; or images [n, h, w, c], uint8 or floats in [0, 1], of as many
            channels as the encoder was trained on.
          batch: images at a time.

        Raises:
          ValueError: no encoder, or inputs that are not what it takes.
        """
        if self.encoder is None:
            name = self.record["experiment"]
            raise ValueError(f"experiment {name} has no encode(config, state)")
        if isinstance(self.encoder, TextEncoder):
            if isinstance(inputs, str) or not all(isinstance(x, str) for x in inputs):
                raise ValueError("inputs: expected a list of texts")
            return self.encoder.encode(self.encoder.params, list(inputs))
        return encode_arrays(self.encoder, check_images(inputs), batch)

    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the images that it is trained on.

        Raises:
          ValueError: batches without an image.
        """
        batch = next(self.experiment.batches(self.config, 0))
        if "image" not in batch:
            raise ValueError(f"batches: expected an image, got {', '.join(batch)}")
        height, width, channels = batch["image"].shape[-3:]
        return height, width, channels

    def save(
        self,
        folder: str | pathlib.Path,
        form: Literal["safetensors", "stablehlo"] = "safetensors",
        *,
        shape: tuple[int, ...] | None = None,
    ) -> str:
        """Writes the encoder, with a model card made of the run's record.

        "safetensors" is in Hugging Face layout where there is one (sentence encoders;
        `Resnet`, `Vit` and two towers with the settings of published ones), else all
        variables by their paths. "stablehlo" is the encoder as one program for any
        number of rows, see `pretrained.save_program`.

        Args:
          folder: where to; it must not be there, or be empty.
          form: of the two.
          shape: of an image, (height, width, channels), for "stablehlo"; that of the
            first training batch when None.

        Returns:
          what was written, in a few words.

        Raises:
          ValueError: a folder with something in it, or no encoder.
        """
        folders.check_new(folder)
        if form == "safetensors":
            return save_weights(self, folder)
        if form != "stablehlo":
            raise ValueError(
                f'form: expected "safetensors" or "stablehlo", got {form!r}'
            )
        return save_program(self, folder, shape)


def save_weights(run: Run, folder: str | pathlib.Path) -> str:
    """See `Run.save`."""
    if isinstance(run.encoder, TextEncoder):
        pretrained.save_encoder(run.encoder, folder, record=run.record)
        return "a sentence encoder in the layout of sentence-transformers"
    variables = {"params": run.state.params, "batch_stats": run.state.model_state}
    module, inner, reason = None, variables, "it has no encoder of images"
    if isinstance(run.encoder, jax.tree_util.Partial):
        module, inner = getattr(run.encoder.func, "model", None), run.encoder.args[0]
    if isinstance(module, EncoderWithHead):
        module = module.encoder
        inner = {k: v.get("encoder", {}) for k, v in inner.items()}
    if module is not None:
        try:
            kind = vision.kind_of(module)
            loss = run.state.params.get("loss")
            pretrained.save_vision(module, inner, folder, loss=loss, record=run.record)
            return f"the layout of Hugging Face's {vision.ARCHITECTURES[kind]}"
        except ValueError as e:
            reason = str(e)
    about = {name: run.record.get(name) for name in ("experiment", "variant", "config")}
    about = {"format": "contrastive_jax", "method": run.method, **about}
    pretrained.save_arrays(variables, folder, config=about, record=run.record)
    return f"arrays by their paths; no published layout has them ({reason})"


def save_program(run: Run, folder: str | pathlib.Path, shape: Any) -> str:
    """See `Run.save`."""
    encoder, constraints = run.encoder, ()
    if encoder is None:
        raise ValueError(f"experiment {run.record['experiment']} has no encode")
    if isinstance(encoder, TextEncoder):
        inputs = {"tokens": ("b, t", "int32"), "where": ("b, t", "bool")}
        constraints = (f"t <= {encoder.max_tokens}",)
        # Arrays of numpy cannot be cut to a length that is chosen later.
        params = jax.tree.map(jnp.asarray, encoder.params)
        function = functools.partial(encoder.embed, params)
    else:
        sizes = ["b", *map(str, run.image_shape() if shape is None else shape)]
        inputs = {"image": (", ".join(sizes), "float32")}
        function = encoder
    pretrained.save_program(
        function, inputs, folder, constraints=constraints, record=run.record
    )
    return f"StableHLO of {', '.join(f'{n} [{s}]' for n, (s, _) in inputs.items())}"


def check_images(inputs: Any) -> np.ndarray:
    """Images as an array.

    Raises:
      ValueError: no array of uint8 or of floats in [0, 1], or one without rows.
    """
    array = np.asarray(inputs)
    expected = "inputs: expected images [n, h, w, c], uint8 or floats in [0, 1], got"
    real = np.issubdtype(array.dtype, np.floating)
    if array.ndim < 2 or not len(array) or not (array.dtype == np.uint8 or real):
        raise ValueError(f"{expected} {array.dtype} {list(array.shape)}")
    if real and array.ndim == 4 and not (array.min() >= 0 and array.max() <= 1):
        raise ValueError(f"{expected} values from {array.min()} to {array.max()}")
    return array


@jax.jit
def apply(encoder: jax.tree_util.Partial, array: jax.Array) -> jax.Array:
    """Features of a batch; bytes become floats in [0, 1]."""
    if array.dtype == jnp.uint8:
        return encoder(jnp.asarray(array, jnp.float32) / 255)
    return encoder(jnp.asarray(array, jnp.float32))


def encode_arrays(encoder: Any, array: np.ndarray, batch: int = 500) -> np.ndarray:
    """Features of an array, batch by batch, each of the same shape.

    Raises:
      ValueError: rows that do not fit the encoder.
    """
    if not isinstance(encoder, jax.tree_util.Partial):
        encoder = jax.tree_util.Partial(encoder)
    batch, parts = min(batch, len(array)), []
    for start in range(0, len(array), batch):
        part = array[start : start + batch]
        padding = [(0, batch - len(part))] + [(0, 0)] * (array.ndim - 1)
        try:
            features = np.asarray(apply(encoder, np.pad(part, padding)))
        except Exception as e:
            shape = list(array.shape[1:])
            reason = checkpoint.first_line(e)
            raise ValueError(
                f"inputs: {shape} does not fit the encoder ({reason})"
            ) from e
        parts.append(features[: len(part)])
    return np.concatenate(parts)


def load_run(
    workdir: str | pathlib.Path,
    method: str | None = None,
    *,
    experiment: types.ModuleType | None = None,
) -> Run:
    """Opens the folder of a run, whether it is over or goes on; writes nothing there.

    Where the code has changed since, a line on stderr says so.

    Args:
      workdir: folder of the run, as given to `launch/run`.
      method: which of its trainings; None where there is one.
      experiment: module of the experiment; found by the name in config.json when None.

    Raises:
      LoadError: no run, no such method, or a checkpoint that does not fit the code.
    """
    workdir = pathlib.Path(workdir)
    about = read_record(workdir)
    module = find_experiment(about["experiment"]) if experiment is None else experiment
    warn_of_changes(workdir, about)
    place = choose(workdir, method)
    config = read_config(workdir, place)
    like = jax.eval_shape(functools.partial(module.init, config))
    try:
        state, step = checkpoint.read(place / "checkpoints", like)
    except checkpoint.CheckpointError as e:
        raise LoadError(str(e)) from e
    encode = getattr(module, "encode", None)
    return Run(
        workdir=workdir,
        experiment=module,
        method=place.relative_to(workdir).as_posix(),
        config=config,
        state=state,
        step=step,
        encoder=encode(config, state) if encode else None,
        record=about
        | {
            "method": place.relative_to(workdir).as_posix(),
            "step": step,
            "config": configs.plain(config),
        },
    )


def read_record(workdir: pathlib.Path) -> dict[str, Any]:
    """config.json of a run, with what result.json adds.

    Raises:
      LoadError: no config.json, or one that is none.
    """
    about: dict[str, Any] = {}
    for name in ("config.json", record.RESULT):
        file = workdir / name
        if about and not file.exists():
            break
        try:
            about |= json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError) as e:
            raise LoadError(f"{workdir}: expected the folder of a run ({e})") from e
    if not isinstance(about.get("experiment"), str):
        raise LoadError(
            f"{workdir / 'config.json'}: expected the name of an experiment"
        )
    return about


def find_experiment(name: str) -> types.ModuleType:
    """The module of an experiment, one of the folders of experiments/.

    Raises:
      LoadError: there is none of that name.
    """
    folder = ROOT / "experiments"
    known = [x.name for x in pkgutil.iter_modules([str(folder)]) if x.ispkg]
    if name not in known:
        found = ", ".join(known) or "no folder experiments/ beside the package"
        raise LoadError(f"no experiment {name!r} (there is: {found})")
    if str(ROOT) not in sys.path:  # the package is found without it, experiments is not
        sys.path.append(str(ROOT))
    return importlib.import_module(f"experiments.{name}.experiment")


def warn_of_changes(workdir: pathlib.Path, about: Mapping[str, Any]) -> None:
    """Says in one line which code is not what the run was begun with."""
    folders = (f"experiments/{about['experiment']}", "contrastive_jax")
    code = about.get("code", {})
    changed = [x for x in folders if code.get(x) != record.code_digest(ROOT / x)]
    if changed:
        print(
            f"warning: {workdir} was trained by other code ({' and '.join(changed)} "
            "changed since)",
            file=sys.stderr,
        )


def choose(workdir: pathlib.Path, method: str | None) -> pathlib.Path:
    """The folder of a training.

    Raises:
      LoadError: none of that name, or several and no name.
    """
    places = {
        folder.parent.relative_to(workdir).as_posix(): folder.parent
        for folder in sorted(workdir.rglob("checkpoints"))
        if checkpoint.steps_of(folder)
    }
    if method is None and len(places) == 1:
        return next(iter(places.values()))
    if method not in places:
        got = "none" if method is None else repr(method)
        known = f"one of {', '.join(places)}" if places else "a checkpoint in"
        raise LoadError(f"method: expected {known} ({workdir}), got {got}")
    return places[method]


def read_config(
    workdir: pathlib.Path, place: pathlib.Path
) -> ml_collections.ConfigDict:
    """The config of a training: train.json in its folder, or in one above it.

    Raises:
      LoadError: there is none that can be read.
    """
    for folder in (place, *place.parents):
        file = folder / CONFIG
        if file.exists():
            try:
                return configs.from_plain(json.loads(file.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError) as e:
                raise LoadError(f"{file}: expected a config ({e})") from e
        if folder == workdir:
            break
    raise LoadError(
        f"{place} has no {CONFIG}: it was trained by an older version; the command of "
        "the run writes it when it goes on"
    )

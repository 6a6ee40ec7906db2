"""One step on many devices: `pmap`, `shard_map` or `jit`, the only place with meshes.

"jit_sharded" is `jit` with the state spread over the devices instead of replicated.

    step = data_parallel(functools.partial(make_step, config), config.mapper)
    state, metrics = step(state, batch)

The state is replicated (or spread) and donated, the batch (a dict of host arrays) is
split over devices along its first axis. All mappers take and return states of plain
shapes, so they share checkpoints, and give the same numbers. Of several processes each
hands in its own rows of the batch (`distributed.own_rows`), which lie on its devices.
"""

import collections
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from contrastive_jax.parallel import distributed
from contrastive_jax.parallel.distributed import make_mesh

MAPPERS = ("pmap", "shard_map", "jit")
SHARDED = "jit_sharded"
AXIS = "data"
# jax does not declare it as a class.
Device: TypeAlias = jax.Device  # pyright: ignore[reportInvalidTypeForm]


@runtime_checkable
class MakeStep(Protocol):
    """Builds `step(state, batch) -> (state, metrics)` for a device axis or None."""

    def __call__(self, *, axis_name: str | None) -> Callable[..., Any]: ...


def choose_devices(count: int = 0) -> list[Device]:
    """The first `count` devices, all when 0; of several processes always all.

    Raises:
      ValueError: when there are fewer, or not as many in each process.

    Examples:
      >>> len(choose_devices(1))
      1
    """
    devices = distributed.ordered_devices()
    processes = jax.process_count()
    if processes > 1:
        counts = collections.Counter(d.process_index for d in devices)
        if count not in (0, len(devices)):
            raise ValueError(
                f"devices: expected 0 (all {len(devices)} of {processes} processes), "
                f"got {count}"
            )
        if len(set(counts.values())) > 1:
            raise ValueError(
                f"devices: expected as many in each process, got {dict(counts)}"
            )
    if not 0 <= count <= len(devices):
        raise ValueError(f"devices: expected 0 (all) to {len(devices)}, got {count}")
    return devices[:count] if count else devices


def check_batch(batch: dict[str, Any], num_devices: int) -> None:
    """Checks that every array of the batch splits evenly over the devices.

    Raises:
      ValueError: naming the array, its rows and the number of devices.

    Examples:
      >>> check_batch({"image": np.zeros((6, 2))}, 4)
      Traceback (most recent call last):
      ValueError: batch['image']: 6 rows do not split over 4 devices
    """
    for name, x in batch.items():
        rows = x.shape[0] if x.shape else 0
        if rows == 0 or rows % num_devices:
            raise ValueError(
                f"batch[{name!r}]: {rows} rows do not split over {num_devices} "
                f"device{'s' * (num_devices != 1)}"
            )


class MappedStep:
    """A step mapped over devices: call it, or lower it for shapes alone.

    Args:
      jitted: a compiled function of (state, batch).
      arrange: brings a host batch into the form that `jitted` takes.
      place: puts the state where `jitted` wants it.
      num_devices: devices of this process, which its rows are split over.
      per_device: whether the program is that of one device, not of all together.
    """

    def __init__(
        self,
        jitted: Any,
        arrange: Callable[[Any], Any],
        place: Callable[[Any], Any],
        num_devices: int,
        *,
        per_device: bool,
    ):
        self.jitted, self.arrange, self.place = jitted, arrange, place
        self.num_devices, self.per_device = num_devices, per_device

    def __call__(self, state: Any, batch: dict[str, Any]) -> tuple[Any, Any]:
        """One step; the state handed in is consumed.

        Raises:
          ValueError: a batch that does not split evenly over the devices.
        """
        check_batch(batch, self.num_devices)
        return self.jitted(self.place(state), self.arrange(batch))

    def lower(self, state: Any, batch: dict[str, Any]) -> Any:
        """Traces and lowers for arrays or `jax.ShapeDtypeStruct`s; allocates nothing.

        Raises:
          ValueError: a batch that does not split evenly over the devices.
        """
        check_batch(batch, self.num_devices)
        return self.jitted.lower(state, jax.eval_shape(self.arrange, batch))

    def operations(self, state: Any, batch: dict[str, Any]) -> float | None:
        """Floating-point operations of a step on all devices, as XLA counts them.

        Before it optimizes the program; the body of a loop counts once. None where XLA
        counts none, and of several processes, whose steps jax lowers by calls alone.
        """
        if distributed.num_processes() > 1:
            return None
        costs = self.lower(state, batch).cost_analysis() or {}
        found = costs.get("flops")
        return found and found * (self.num_devices if self.per_device else 1)


def data_parallel(
    make_step: MakeStep,
    mapper: str = "pmap",
    *,
    devices: int = 0,
) -> MappedStep:
    """Maps a step over devices.

    Args:
      make_step: called with `axis_name="data"` for "pmap" and "shard_map", whose steps
        see one device's rows, and with None for "jit", whose step sees the whole batch.
      mapper: "pmap", "shard_map", "jit", or "jit_sharded": under `jit`, every device
        keeps only its share of the state (parameters, optimiser, queues) between and,
        all but the parameters, during steps. Parameters are gathered where a step uses
        them. The step's own memory and numbers are those of "jit".
      devices: how many devices to use; 0 for all.

    Returns:
      `step(state, batch) -> (state, metrics)`. The state handed in is consumed.

    Raises:
      ValueError: an unknown mapper, or more devices than there are.

    References:
      Rajbhandari et al. 2019, arXiv:1910.02054 (the state spread over devices).

    Examples:
      >>> def make_step(*, axis_name):
      ...     def step(state, batch):
      ...         total = batch["x"].mean()
      ...         if axis_name is not None:
      ...             total = jax.lax.pmean(total, axis_name)
      ...         return state + 1, {"mean": total}
      ...
      ...     return step
      >>> step = data_parallel(make_step, "shard_map", devices=1)
      >>> state, metrics = step(jax.numpy.zeros(()), {"x": np.array([1.0, 3.0])})
      >>> print(state, metrics["mean"])
      1.0 2.0
    """
    if mapper not in (*MAPPERS, SHARDED):
        raise ValueError(
            f"mapper: expected one of {', '.join((*MAPPERS, SHARDED))}, got {mapper!r}"
        )
    chosen = choose_devices(devices)
    if mapper == "pmap":
        return map_pmap(make_step(axis_name=AXIS), chosen)
    return place_and_jit(make_step, mapper, make_mesh(chosen))


def lower_abstract(
    make_step: MakeStep,
    mapper: str,
    state: Any,
    batch: dict[str, Any],
    *,
    devices: int,
    platform: str = "tpu",
) -> Any:
    """Lowers a step for any number of devices, which need not exist.

    Nothing is allocated and nothing compiled for a device; `as_text()` of the result
    shows the program.

    Args:
      make_step: as in `data_parallel`.
      mapper: as there; "pmap", which is bound to real devices, stands for "shard_map".
      state: the state, or its shapes.
      batch: a batch of all devices, or its shapes.
      devices: how many.
      platform: "tpu", "cuda" or "cpu".

    Raises:
      ValueError: a batch that does not split evenly over the devices.
    """
    check_batch(batch, devices)
    mesh = AbstractMesh((devices,), (AXIS,), axis_types=(AxisType.Auto,))
    mapper = "shard_map" if mapper == "pmap" else mapper
    jitted = jit_on(make_step, mapper, mesh, state)
    return jitted.trace(state, batch).lower(lowering_platforms=(platform,))


def map_pmap(step: Callable[..., Any], devices: list[Device]) -> MappedStep:
    """The step under `jax.pmap`; state and results need no device axis.

    Of several processes each has the state on its own devices; the axis is that of all.
    """
    own = [d for d in devices if d.process_index == jax.process_index()]
    mapped = jax.pmap(
        step,
        AXIS,
        in_axes=(None, 0),
        out_axes=None,
        devices=devices,
        donate_argnums=(0,),
    )

    def split(batch):
        return jax.tree.map(lambda x: x.reshape(len(own), -1, *x.shape[1:]), batch)

    # Where results lie: a state that came otherwise would be traced and compiled for
    # its first step and once more for its second.
    everywhere = NamedSharding(make_mesh(own), PartitionSpec())

    def place(state):
        return jax.device_put(distributed.local(state), everywhere)

    return MappedStep(mapped, split, place, len(own), per_device=True)


def place_and_jit(make_step: MakeStep, mapper: str, mesh: Mesh) -> MappedStep:
    """The step under "shard_map", "jit" or "jit_sharded" on a mesh of devices."""
    split, processes = NamedSharding(mesh, PartitionSpec(AXIS)), jax.process_count()

    def arrange(batch):
        if processes == 1:
            return jax.device_put(batch, split)
        return jax.tree.map(
            lambda x: jax.make_array_from_process_local_data(split, x), batch
        )

    # A state fresh from init or a checkpoint sits on one device.
    return MappedStep(
        LateJit(lambda state: jit_on(make_step, mapper, mesh, state)),
        arrange,
        lambda state: distributed.place(state, places(mapper, mesh, state)),
        mesh.size // processes,
        per_device=mapper == "shard_map",
    )


def jit_on(
    make_step: MakeStep, mapper: str, mesh: Mesh | AbstractMesh, state: Any
) -> Any:
    """`jax.jit` of the step for states of these shapes."""
    if mapper == "shard_map":
        step = jax.shard_map(
            make_step(axis_name=AXIS),
            mesh=mesh,
            in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
            out_specs=PartitionSpec(),
            # Gathered rows are equal on all devices, which the check cannot know.
            check_vma=False,
        )
    else:
        step = make_step(axis_name=None)
    everywhere = NamedSharding(mesh, PartitionSpec())
    split = NamedSharding(mesh, PartitionSpec(AXIS))
    place = places(mapper, mesh, state)

    def with_whole_params(state, batch):
        whole = jax.lax.with_sharding_constraint(state.params, everywhere)
        return step(state.replace(params=whole), batch)

    gathers = mapper == SHARDED and hasattr(state, "params")
    return jax.jit(
        with_whole_params if gathers else step,
        in_shardings=(place, split),
        out_shardings=(place, everywhere),
        donate_argnums=(0,),
    )


def places(mapper: str, mesh: Mesh | AbstractMesh, state: Any) -> Any:
    """Where the leaves of a state lie."""
    if mapper == SHARDED:
        return spread(state, mesh)
    return NamedSharding(mesh, PartitionSpec())


def spread(state: Any, mesh: Mesh | AbstractMesh, *, min_size: int = 1024) -> Any:
    """Where every leaf of a state lies when it is spread over the mesh.

    A leaf is cut along its largest axis that the number of devices divides. Leaves
    without one, of fewer than `min_size` elements, and random keys are replicated.
    """

    def one(x):
        parts = [None] * x.ndim
        fits = [size if size % mesh.size == 0 else 0 for size in x.shape]
        key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        if x.size >= min_size and max(fits) and not key:
            parts[int(np.argmax(fits))] = AXIS
        return NamedSharding(mesh, PartitionSpec(*parts))

    return jax.tree.map(one, state)


class LateJit:
    """A jitted function that is built when the first state shows its structure.

    Args:
      build: makes the jitted function for a state.
    """

    def __init__(self, build: Callable[[Any], Any]):
        self.build, self.built = build, {}

    def for_state(self, state: Any) -> Any:
        """The jitted function for states of this structure."""
        structure = jax.tree.structure(state)
        if structure not in self.built:
            self.built[structure] = self.build(state)
        return self.built[structure]

    def __call__(self, state: Any, batch: Any) -> Any:
        return self.for_state(state)(state, batch)

    def lower(self, state: Any, batch: Any) -> Any:
        """Traces and lowers for shapes."""
        return self.for_state(state).lower(state, batch)

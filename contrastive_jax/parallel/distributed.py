"""Several processes of one run: start, first process, agreement, stop, global arrays.

Each process has devices of its own; jax sees those of all. All processes run the same
program: they take the same steps, each on its own rows of a batch, and write nothing
but checkpoints, save the first. In a program of one process, where `start` was not
called, everything here is the identity or does nothing.

    start(find())                        # before the first computation
    rows = own_rows(np.arange(256))      # which of a batch this process reads
    barrier("data is there")
    if is_first(): ...                   # files, printing
"""

import collections
import contextlib
import dataclasses
import hashlib
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

# Seconds that processes wait for each other to connect, and without a sign of life.
TIMEOUT = 25.0
# Seconds to wait where one process may have to compile or to read more than others.
LONG = 1800.0
# What a process sends to itself when another one was asked to stop.
RELAY = signal.SIGUSR1
READY = b"ready\n"


class DistributedError(Exception):
    """Processes cannot start or go on together; the message names those concerned."""


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The processes of a run.

    Attributes:
      coordinator: "host:port" of the first process, or "auto", where jax finds out all
        three by itself (TPU).
      num_processes: how many.
      process_id: which of them this one is, from 0 on.
    """

    coordinator: str
    num_processes: int = 0
    process_id: int = 0


def find(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    environ: Mapping[str, str] | None = None,
) -> Cluster | None:
    """The processes of this run, as given or as the environment says; None for one.

    What is not given is read from JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and
    JAX_PROCESS_ID (set by `launch/k8s`), then from SLURM within `srun`.

    Args:
      coordinator: "host:port" of the first process, or "auto".
      num_processes: how many.
      process_id: which of them this one is, from 0 on.
      environ: the environment; that of this process when None.

    Raises:
      DistributedError: some of the three and not all, or a value out of range.

    Examples:
      >>> find("10.0.0.1:8476", 2, 1, {}).process_id
      1
      >>> find(environ={}) is None
      True
    """
    if coordinator == "auto":
        return Cluster("auto")
    environ = os.environ if environ is None else environ
    steps = int(environ.get("SLURM_NTASKS", "1")) if "SLURM_PROCID" in environ else 1
    if steps > 1 and "SLURM_STEP_NODELIST" in environ:
        job = int(environ.get("SLURM_JOB_ID", "0"))
        host = first_host(environ["SLURM_STEP_NODELIST"])
        known = {
            "coordinator": f"{host}:{61440 + job % 4096}",
            "num_processes": str(steps),
            "process_id": environ["SLURM_PROCID"],
        }
    else:
        known = {}
    names = {
        "coordinator": ("JAX_COORDINATOR_ADDRESS", coordinator),
        "num_processes": ("JAX_NUM_PROCESSES", num_processes),
        "process_id": ("JAX_PROCESS_ID", process_id),
    }
    for name, (variable, given) in names.items():
        value = environ.get(variable) if given is None else str(given)
        known |= {} if value is None else {name: value}
    if not known or known.get("num_processes") == "1":
        return None
    for name, (variable, _) in names.items():
        flag = "--" + name.replace("_", "-")
        if name not in known:
            raise DistributedError(
                f"{flag} (or {variable}) is missing beside {', '.join(sorted(known))}"
            )
        if name != "coordinator" and not known[name].isdecimal():
            raise DistributedError(f"{flag}: expected a number, got {known[name]!r}")
    count, own = int(known["num_processes"]), int(known["process_id"])
    if not re.fullmatch(r".+:\d{1,5}", known["coordinator"]):
        raise DistributedError(
            f'--coordinator: expected HOST:PORT or "auto", got {known["coordinator"]!r}'
        )
    if not 0 <= own < count:
        raise DistributedError(f"--process-id: expected 0 to {count - 1}, got {own}")
    return Cluster(known["coordinator"], count, own)


def first_host(nodes: str) -> str:
    """The first host of SLURM's list.

    Examples:
      >>> first_host("gpu[007-012,020],login1"), first_host("a1,a2")
      ('gpu007', 'a1')
    """
    name, bracket, inside = re.match(r"([^,\[]+)(\[?)([^,\]\-]*)", nodes).groups()  # pyright: ignore[reportOptionalMemberAccess]
    return name + inside if bracket else name


def start(cluster: Cluster | None, timeout: float = TIMEOUT) -> None:
    """Connects the processes of a run; before anything is computed.

    A process that is lost later ends the others: jax aborts them.

    Args:
      cluster: see `find`; None for one process.
      timeout: seconds to wait for all; later, those without a sign of life after which
        a process counts as lost, up to 100.

    Raises:
      DistributedError: the coordinator's port is taken, it cannot be reached, or some
        processes did not come; says which.
    """
    if cluster is None:
        return
    if cluster.coordinator != "auto":
        # jax would abort the process, without a word on who is missing.
        meet(cluster, timeout)
    # SIGTERM is handled by `watch_for_stop`, in all processes alike.
    jax.config.update("jax_enable_preemption_service", False)
    seconds = max(1, round(timeout))
    waits: dict[str, Any] = dict(
        initialization_timeout=seconds,
        heartbeat_timeout_seconds=min(seconds, 100),  # 100 by jax's default
        shutdown_timeout_seconds=seconds,
    )
    if cluster.coordinator == "auto":
        jax.distributed.initialize(**waits)
    else:
        jax.distributed.initialize(
            cluster.coordinator,
            cluster.num_processes,
            cluster.process_id,
            cluster_detection_method="deactivate",
            coordinator_bind_address=bind_address(cluster.coordinator),
            **waits,
        )
    STOP.watch()


def meet(cluster: Cluster, timeout: float) -> None:
    """Waits until all processes are there, by the coordinator's port alone.

    Raises:
      DistributedError: as `start`.
    """
    host, _, port = cluster.coordinator.rpartition(":")
    until = time.monotonic() + timeout
    if cluster.process_id:
        return greet(host.strip("[]"), int(port), cluster, until, timeout)
    missing, guests = set(range(1, cluster.num_processes)), []
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(listen(bind_address(cluster.coordinator)))
        except OSError as e:
            raise DistributedError(
                f"--coordinator {cluster.coordinator}: this process cannot listen on "
                f"port {port} ({os.strerror(e.errno or 0)}); choose another port"
            ) from e
        while missing:
            server.settimeout(max(until - time.monotonic(), 0.01))
            try:
                guest = stack.enter_context(server.accept()[0])
                guest.settimeout(max(min(until - time.monotonic(), 5), 0.01))
                number = int(guest.makefile("rb").readline(20))
            except (OSError, ValueError) as e:
                if time.monotonic() < until:
                    continue  # no process of ours
                raise DistributedError(
                    f"{names_of(missing)} of {cluster.num_processes} did not connect "
                    f"to {cluster.coordinator} within {timeout:.0f} s"
                ) from e
            missing.discard(number)
            guests.append(guest)
        for guest in guests:
            with contextlib.suppress(OSError):
                guest.sendall(READY)
                guest.recv(1)  # until it has closed: the port is free at once then


def bind_address(coordinator: str) -> str:
    """Where the coordinator listens: nobody else hears what runs on one machine.

    Examples:
      >>> bind_address("127.0.0.1:8476"), bind_address("node7:8476")
      ('127.0.0.1:8476', '[::]:8476')
    """
    host, _, port = coordinator.rpartition(":")
    if host in ("127.0.0.1", "localhost"):
        return f"127.0.0.1:{port}"
    return f"[::]:{port}" if socket.has_dualstack_ipv6() else f"0.0.0.0:{port}"


def listen(address: str) -> socket.socket:
    """A socket that listens on an address of `bind_address`."""
    host, _, port = address.rpartition(":")
    if host == "[::]":
        return socket.create_server(
            ("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True
        )
    return socket.create_server((host, int(port)))


def greet(host: str, port: int, cluster: Cluster, until: float, timeout: float) -> None:
    """Tells the first process that this one is there, and waits for the others."""
    reason = "no answer"
    while time.monotonic() < until:
        left = max(until - time.monotonic(), 0.01)
        try:
            # Slightly longer than the first process waits, whose message is better.
            with socket.create_connection((host, port), timeout=left + 1) as server:
                server.sendall(b"%d\n" % cluster.process_id)
                if server.makefile("rb").readline(20) == READY:
                    return
                reason = "it went away"
        except OSError as e:
            reason = e.strerror or str(e)
        time.sleep(0.2)
    raise DistributedError(
        f"process {cluster.process_id}: the coordinator {cluster.coordinator} cannot "
        f"be reached within {timeout:.0f} s ({reason})"
    )


def names_of(processes: Any) -> str:
    """Some processes in words.

    Examples:
      >>> names_of({3, 1}), names_of({2})
      ('processes 1, 3', 'process 2')
    """
    numbers = sorted(processes)
    plural = "es" * (len(numbers) != 1)
    return f"process{plural} {', '.join(map(str, numbers))}"


def num_processes() -> int:
    """How many processes the run has; starts no backend."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def process_id() -> int:
    """Which of them this is, from 0 on."""
    return jax.process_index() if jax.distributed.is_initialized() else 0


def is_first() -> bool:
    """Whether this process writes files and prints."""
    return process_id() == 0


def client() -> Any:
    """jax's connection to the coordinator: a store of strings shared by all."""
    from jax._src import distributed  # no public door to it

    return distributed.global_state.client


TIMES: collections.Counter[str] = collections.Counter()


def say(name: str, text: str) -> None:
    """This process's text of the next `exchange` of that name, without waiting."""
    if num_processes() > 1:
        TIMES[name] += 1
        place = f"contrastive_jax/{name}/{TIMES[name]}/{process_id()}"
        client().key_value_set(place, text or " ")


def exchange(name: str, text: str = "", timeout: float = LONG) -> list[str]:
    """The texts of all processes, in their order; all have to call it.

    Args:
      name: of this exchange; may come again.
      text: what this process says.
      timeout: seconds to wait for the others.

    Raises:
      DistributedError: some did not come within `timeout`; says which.

    Examples:
      >>> exchange("seed", "3")
      ['3']
    """
    count = num_processes()
    if count == 1:
        return [text]
    say(name, text)
    folder = f"contrastive_jax/{name}/{TIMES[name]}/"
    until, pause = time.monotonic() + timeout, 0.005
    while True:
        # Not jax's barrier, in which Python would handle no signal.
        found = client().key_value_dir_get(folder)
        said = {int(key.rpartition("/")[2]): value for key, value in found}
        if len(said) == count:
            return [said[i] if said[i] != " " else "" for i in range(count)]
        if time.monotonic() > until:
            missing = names_of(set(range(count)) - set(said))
            raise DistributedError(
                f"{name}: {missing} of {count} did not come within {timeout:.0f} s"
            )
        time.sleep(pause)
        pause = min(2 * pause, 0.25)


def barrier(name: str, timeout: float = LONG) -> None:
    """Waits until all processes have come here.

    Raises:
      DistributedError: some did not within `timeout` seconds; says which.
    """
    exchange(name, timeout=timeout)


def own_rows(rows: Any) -> Any:
    """This process's part of the rows of a batch: of p processes, the p-th part.

    Every source of batches takes its part, before it reads anything if it can.

    Args:
      rows: array [n, ...] or dict of such arrays; all have as many rows.

    Raises:
      ValueError: the rows do not split evenly over the processes.

    Examples:
      >>> own_rows(np.arange(3)).tolist()  # one process
      [0, 1, 2]
    """
    count = num_processes()
    if count == 1:
        return rows
    if isinstance(rows, dict):
        return {name: own_rows(x) for name, x in rows.items()}
    if len(rows) % count:
        raise ValueError(f"batch: {len(rows)} rows do not split over {count} processes")
    size = len(rows) // count
    return rows[process_id() * size :][:size]


def whole_shapes(batch: Any) -> Any:
    """Of this process's rows of a batch the shapes of all processes' together.

    Examples:
      >>> whole_shapes({"x": np.zeros((4, 2))})["x"].shape  # one process
      (4, 2)
    """
    count = num_processes()
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((len(x) * count, *x.shape[1:]), x.dtype), batch
    )


def checked(batches: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The same batches; of several processes, no two may read the same first one.

    Raises:
      ValueError: two did: their source of batches does not take its `own_rows`.
    """
    return batches if num_processes() == 1 else different(batches)


def different(batches: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The same batches, after the first has been compared by its digest."""
    first = next(batches)
    digest = hashlib.sha256()
    for name in sorted(first):
        digest.update(np.ascontiguousarray(first[name]).tobytes())
    digests = exchange("first batch", digest.hexdigest())
    for i, x in enumerate(digests):
        if x in digests[:i]:
            raise ValueError(
                f"batches: {names_of({digests.index(x), i})} read the same rows; each "
                "has to take its parallel.own_rows of every batch"
            )
    yield first
    yield from batches


# Arrays


def make_mesh(devices: Any) -> Mesh:
    """A mesh with the one axis "data", sharded automatically."""
    return Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))


def is_global(x: Any) -> bool:
    """Whether an array lies on devices of several processes."""
    return isinstance(x, jax.Array) and not x.is_fully_addressable


def on_key_data(function: Callable[[Any], Any], x: Any) -> Any:
    """A function of an array, or of the data of typed random keys."""
    if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        data = function(jax.random.key_data(x))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
    return function(x)


def place(tree: Any, where: Any) -> Any:
    """`jax.device_put` that also takes a process's own arrays to devices of all.

    Args:
      tree: arrays; those that are not global yet are the same in every process.
      where: a sharding, or one per leaf.
    """
    leaves = jax.tree.leaves(tree)
    if num_processes() == 1 or all(map(is_global, leaves)):
        return jax.device_put(tree, where)
    if isinstance(where, jax.sharding.Sharding):
        where = jax.tree.map(lambda _: where, tree)

    def one(x, sharding):
        if is_global(x):
            return jax.device_put(x, sharding)

        def put(x):
            host = np.asarray(x)
            return jax.make_array_from_callback(host.shape, sharding, lambda i: host[i])

        return on_key_data(put, x)

    return jax.tree.map(one, tree, where)


def everywhere(tree: Any) -> Any:
    """Arrays, the same in every process, as global arrays replicated on all devices."""
    if num_processes() == 1:
        return tree
    return place(tree, NamedSharding(make_mesh(ordered_devices()), PartitionSpec()))


def local(tree: Any) -> Any:
    """Whole arrays of this process: global ones are gathered; all have to call it."""
    if not any(map(is_global, jax.tree.leaves(tree))):
        return tree

    def one(x):
        if not is_global(x):
            return x
        if not x.is_fully_replicated:
            spread = NamedSharding(x.sharding.mesh, PartitionSpec())
            x = jax.jit(lambda x: x, out_shardings=spread)(x)
        return x.addressable_data(0)

    return jax.tree.map(one, tree)


def rejoin(tree: Any) -> Any:
    """`local` arrays, once all processes have come here: what is written is there."""
    barrier("end of training")
    return local(tree)


def ordered_devices() -> list[Any]:
    """All devices, process by process, in the order in which rows lie on them."""
    return sorted(jax.devices(), key=lambda d: d.process_index)


# Stopping


class Stop:
    """What the processes agree on when one of them is asked to stop.

    Steps run ahead of the devices, and further in one process than in another; none may
    wait for another within a step. So when one is asked, a thread of each says how far
    it is, and all go on to the step after the furthest.
    """

    def __init__(self):
        self.lock, self.ended = threading.Lock(), threading.Event()
        self.count, self.last, self.asked, self.reason = 0, None, False, ""

    def watch(self) -> None:
        """Starts the thread."""
        threading.Thread(target=self.wait, name="stop", daemon=True).start()

    def ask(self, reason: str) -> None:
        """Asks all processes to stop, this one included; may be called by a handler."""
        if num_processes() == 1 or self.asked:
            return
        self.asked, self.reason = True, reason
        with contextlib.suppress(Exception):  # another process was first
            client().key_value_set("contrastive_jax/stop", reason)

    def wait(self) -> None:
        """Waits until one asks; agrees on the last step; tells this process."""
        while not self.ended.wait(0.25):
            try:
                reason = client().key_value_try_get("contrastive_jax/stop")
            except Exception as e:
                if "NOT_FOUND" in str(e):
                    continue
                return  # the run is over
            with self.lock:
                steps = exchange("stop", str(self.count), TIMEOUT)
                self.last = max(map(int, steps)) + 1
            told, self.asked = self.asked, True
            self.reason = self.reason or reason
            if not told and callable(signal.getsignal(RELAY)):
                os.kill(os.getpid(), RELAY)
            return

    def here(self, asked: bool) -> bool:
        """Whether to stop after this step; called after each, in every process.

        Args:
          asked: whether this process was asked to stop.
        """
        if num_processes() == 1:
            return asked
        with self.lock:
            self.count += 1
            return self.last is not None and self.count >= self.last


STOP = Stop()

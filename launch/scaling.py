"""What a two-tower step costs on N devices: operations, bytes over links, memory, time.

    python -m launch.scaling
    python -m launch.scaling --batch 1048576 --devices 64 256 1024 --machine h100-node

Prints a table per way in which the rows of devices meet. The model is arithmetic, with
no measured constant but the shares of peak in `MACHINES`; `read_program` counts the
same quantities in a compiled program, and tests/parallel/test_scaling.py holds the two
against each other on 1, 2, 4 and 8 devices. docs/scaling.md explains the model.
"""

import argparse
import dataclasses
import math
import re
import sys
from typing import Literal

from contrastive_jax import parallel
from contrastive_jax.parallel import strips, sums, tiles

HOP_SECONDS = 1e-5  # start of one message


@dataclasses.dataclass(frozen=True)
class Machine:
    """One kind of device and the link to its neighbours.

    Attributes:
      flops: peak operations per second.
      link: bytes per second one way.
      memory: bytes.
      used: share of the peak that large products reach.
      tile: rows and columns per tile of the loss.
    """

    flops: float
    link: float
    memory: float
    used: float = 0.6
    tile: int = tiles.LARGE_TILE


MACHINES = {
    "h100-node": Machine(989e12, 450e9, 80e9),  # NVLink
    "h100-port": Machine(989e12, 50e9, 80e9),  # one 400 Gb/s port
    "tpu-v5p": Machine(459e12, 200e9, 95e9),  # one torus axis, both ways
    "tpu-v6e": Machine(918e12, 190e9, 32e9),
}


@dataclasses.dataclass(frozen=True)
class Model:
    """Two towers and their optimiser, as far as the cost of a step goes.

    Attributes:
      flops_per_pair: operations of both towers forward, for one pair.
      parameters: of both towers.
      activations: bytes of one pair's activations that the backward pass needs.
      width: size of an embedding, D.
      element_bytes: bytes of an embedding element, e.
      moments: float32 values that the optimiser keeps per parameter.
    """

    flops_per_pair: float
    parameters: float
    activations: float
    width: int
    element_bytes: int = 2
    moments: int = 2


# ViT-B/32 at 224 pixels with 12 text blocks at 76 tokens: 151 million parameters.
# Products of a block: 12 d^2 per token for the weights, 2 t d for attention.
VIT_B_32 = Model(
    flops_per_pair=2.0
    * (
        50 * 12 * (12 * 768**2 + 2 * 50 * 768)
        + 76 * 12 * (12 * 512**2 + 2 * 76 * 512)
        + 49 * 3072 * 768
        + 768 * 512
        + 512 * 512
    ),
    parameters=151.3e6,
    # 34 t d + 5 heads t^2 bytes per block in 16 bits (Korthikanti et al. 2022,
    # arXiv:2205.05198, eq. 2).
    activations=12 * (34 * 50 * 768 + 5 * 12 * 50**2)
    + 12 * (34 * 76 * 512 + 5 * 8 * 76**2),
    width=512,
)


@dataclasses.dataclass(frozen=True)
class Cost:
    """Costs of one step on one device; bytes are those a device sends.

    Attributes:
      encoder_flops: products of the towers.
      loss_flops: products of the loss.
      exchange_bytes: embeddings and their gradients.
      gradient_bytes: gradients of the parameters (and, spread, the parameters).
      messages: messages of the exchange.
      state_bytes: parameters and optimiser.
      scratch_bytes: activations, gradients, embeddings, what the loss needs.
      seconds: predicted time.
    """

    encoder_flops: float
    loss_flops: float
    exchange_bytes: float
    gradient_bytes: float
    messages: int
    state_bytes: float
    scratch_bytes: float
    seconds: float


Exchange = Literal["tiles", "ring"]


def loss_flops(devices: int, batch: int, width: int, exchange: Exchange) -> float:
    """Products of the two-way loss with its gradient, on one device.

    tiles:  12 b B D   two one-way losses: a logit matrix and two gradients each
    ring:    8 b B D   one matrix for both directions, once more on the way back
    """
    factor = {"tiles": 12, "ring": 8}[exchange]
    return factor * (batch / devices) * batch * width


def exchange_bytes(
    devices: int, batch: int, width: int, element: int, exchange: Exchange
) -> float:
    """Bytes that one device sends for embeddings and their gradients.

    tiles:  4 (N-1) b D e               a and b there, both gradients back
    ring:   2 (N-1) b D e + 4 N b D     b there, b again and its float32 gradient
    """
    rows = batch / devices
    if devices == 1:
        return 0.0
    if exchange == "tiles":
        return 4 * (devices - 1) * rows * width * element
    return rows * width * (2 * (devices - 1) * element + 4 * devices)


def exchange_scratch(
    devices: int,
    batch: int,
    width: int,
    element: int,
    exchange: Exchange,
    tile: int,
) -> float:
    """Bytes of the loss beside the local embeddings and their gradients.

        tiles:  2 B D (e + 4) + tiles       both sets of all devices, their gradients
        ring:   2 b D (2 e + 4) + tiles     two buffers of a shard and its gradient

    The tiles are four float32 blocks of at most `tile` rows and columns, and for each
    direction of the gathered form a strip of two tiles by all columns; up to
    `sums.KEPT_SCORES` scores it keeps three blocks of b by B per direction instead.
    """
    rows = batch / devices
    tiles = 16 * min(rows, tile) * min(batch if exchange == "tiles" else rows, tile)
    if exchange == "ring":
        return 2 * rows * width * (2 * element + 4) + tiles
    tiles += 2 * 4 * min(min(rows, 2 * tile) * batch, strips.LARGE_STRIP)
    if rows * batch <= sums.KEPT_SCORES:
        tiles = 24 * rows * batch
    return 2 * batch * width * (element + 4) + tiles


def predict(
    model: Model,
    machine: Machine,
    devices: int,
    batch: int,
    *,
    exchange: Exchange | None = None,
    chunk: int = 0,
    spread: bool = False,
) -> Cost:
    """The cost of one step.

        seconds = (encoder + loss) / (used flops) + gradient / link + exposed exchange

    Exposed is all that is gathered, and of a ring what its own tiles do not cover.

    Args:
      model: the towers.
      machine: the devices.
      devices: how many, N.
      batch: pairs of all devices, B.
      exchange: how rows meet; by `parallel.choose_exchange` when None.
      chunk: pairs encoded at a time (one more forward pass); 0 for all at once.
      spread: whether the state is spread over the devices ("jit_sharded").

    Raises:
      ValueError: a batch that does not split over the devices.
    """
    if exchange is None:
        exchange = parallel.choose_exchange(
            batch,
            model.width,
            devices,
            machine.memory,
            element_bytes=model.element_bytes,
        )
    if batch % devices:
        raise ValueError(f"batch: {batch} rows do not split over {devices} devices")
    rows, share = batch / devices, (devices - 1) / devices
    sizes = (devices, batch, model.width)
    encoder = rows * model.flops_per_pair * (4 if chunk else 3)
    loss = loss_flops(*sizes, exchange)
    sent = exchange_bytes(*sizes, model.element_bytes, exchange)
    # Summing gradients sends each twice; a spread state sends parameters once more.
    gradient = 4 * model.parameters * share * (3 if spread else 2)
    messages = 0
    if devices > 1:
        messages = 4 if exchange == "tiles" else 2 * (devices - 1)
    state = 4 * model.parameters * (1 + model.moments)
    state = state / devices if spread else state
    scratch = 4 * model.parameters * (2 if spread else 1)
    scratch += (chunk or rows) * model.activations
    scratch += 2 * rows * model.width * (model.element_bytes + 4)
    scratch += exchange_scratch(*sizes, model.element_bytes, exchange, machine.tile)
    speed = machine.used * machine.flops
    on_link = sent / machine.link
    exposed = on_link if exchange == "tiles" else max(0.0, on_link - loss / speed)
    seconds = (encoder + loss) / speed + gradient / machine.link + exposed
    return Cost(
        encoder,
        loss,
        sent,
        gradient,
        messages,
        state,
        scratch,
        seconds + messages * HOP_SECONDS,
    )


# Counting in compiled programs


@dataclasses.dataclass
class Counts:
    """What one device does in a program.

    Attributes:
      flops: operations of matrix products.
      sent: bytes sent by kind of collective.
    """

    flops: float = 0.0
    sent: dict[str, float] = dataclasses.field(default_factory=dict)

    def add(self, other: "Counts", times: int = 1) -> None:
        """Adds another count, so many times."""
        self.flops += times * other.flops
        for kind, size in other.sent.items():
            self.sent[kind] = self.sent.get(kind, 0.0) + times * size


ITEM = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2}
ITEM |= {"f32": 4, "s32": 4, "u32": 4, "f64": 8, "s64": 8, "u64": 8}
SHAPE = re.compile(r"(\w+)\[([\d,]*)\]")
COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "collective-permute")


def dims(shape: str) -> list[int]:
    """The sizes of the first array of a type."""
    return [int(n) for n in SHAPE.search(shape)[2].split(",") if n]


def size_in_bytes(shape: str) -> int:
    """Bytes of an array type or of all arrays of a tuple type."""
    total = 0
    for dtype, sizes in SHAPE.findall(shape):
        count = 1
        for n in sizes.split(","):
            count *= int(n) if n else 1
        total += ITEM.get(dtype, 0) * count
    return total


def parse_line(line: str) -> tuple[str, str, str, str] | None:
    """Name, type, operation and the rest of an instruction of HLO text."""
    match = re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*)", line)
    if not match:
        return None
    name, rest = match.groups()
    if rest.startswith("("):
        end = depth = 0
        while depth or not end:
            depth += (rest[end] == "(") - (rest[end] == ")")
            end += 1
        end -= 1
        shape, rest = rest[: end + 1], rest[end + 1 :].lstrip()
    else:
        shape, _, rest = rest.partition(" ")
    operation, _, rest = rest.partition("(")
    return name, shape, operation, rest


def read_program(text: str) -> Counts:
    """Counts products and collectives in compiled HLO text, loops by their trips.

    A collective over groups of N devices sends, per device, (N-1)/N of what an
    all-gather returns, of what a reduce-scatter takes, twice that of an all-reduce, and
    all of what a collective-permute passes on.

    Raises:
      ValueError: a loop whose number of trips the text does not say.
    """
    bodies: dict[str, list[tuple[str, str, str, str]]] = {}
    entry, current = "", None
    for line in text.splitlines():
        header = re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line)
        if header:
            current = header[2]
            bodies[current] = []
            entry = current if header[1] else entry
        elif current is not None and (parsed := parse_line(line)):
            bodies[current].append(parsed)
    found: dict[str, Counts] = {}

    def count(name: str) -> Counts:
        if name in found:
            return found[name]
        total, shapes = Counts(), {n: s for n, s, _, _ in bodies[name]}
        for _, shape, operation, rest in bodies[name]:
            if operation == "dot":
                first = re.match(r"(?:[^%\s]\S* )?%([\w.\-]+)", rest)[1]
                axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", rest)[1]
                size = 2
                for n in dims(shape):
                    size *= n
                for axis in axes.split(","):
                    size *= dims(shapes[first])[int(axis)]
                total.flops += size
            elif operation.removesuffix("-start") in COLLECTIVES:
                kind = operation.removesuffix("-start")
                total.add(Counts(sent={kind: sent_bytes(kind, shape, rest)}))
            elif operation == "while":
                trips = re.search(r'known_trip_count":\{"n":"(\d+)"', rest)
                inner = count(re.search(r"body=%?([\w.\-]+)", rest)[1])
                if not trips and (inner.flops or inner.sent):
                    raise ValueError(f"a loop in {name} of unknown trip count")
                total.add(inner, int(trips[1]) if trips else 0)
            elif operation in ("fusion", "call", "conditional"):
                pattern = r"(?:calls|to_apply|branch_computations)=\{?%?([\w.\-]+)"
                for called in re.findall(pattern, rest):
                    total.add(count(called))
        found[name] = total
        return total

    return count(entry)


def sent_bytes(kind: str, shape: str, rest: str) -> float:
    """Bytes that one device sends in a collective; see `read_program`."""
    size = size_in_bytes(shape)
    if kind == "collective-permute":
        return size
    devices = group_devices(rest)
    share = (devices - 1) / devices
    if kind == "all-reduce":
        return 2 * size * share
    if kind == "reduce-scatter":
        return size * devices * share
    return size * share


def group_devices(rest: str) -> int:
    """Devices that take part in one group of a collective, in any of three notations.

    {{0,1},{2,3}}; [groups,devices]<=[all]; mesh['axis'=size,...] {'axis',...}.
    """
    if found := re.search(r"replica_groups=\{\{([\d,]+)\}", rest):
        return len(found[1].split(","))
    if found := re.search(r"replica_groups=\[\d+,(\d+)\]", rest):
        return int(found[1])
    found = re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", rest)
    sizes = dict(re.findall(r"'(\w+)'=(\d+)", found[1]))
    return math.prod(int(sizes[name]) for name in re.findall(r"'(\w+)'", found[2]))


def table(
    model: Model, machine: Machine, devices: list[int], batch: int, chunk: int
) -> str:
    """The costs as markdown, one line per number of devices and exchange."""
    head = [
        "N",
        "exchange",
        "encoder TFLOP",
        "loss TFLOP",
        "exchange GB",
        "gradient GB",
        "state GB",
        "scratch GB",
        "step ms",
        "loss share %",
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for n in devices:
        chosen = parallel.choose_exchange(
            batch, model.width, n, machine.memory, element_bytes=model.element_bytes
        )
        for exchange in ("tiles", "ring") if n > 1 else ("tiles",):
            cost = predict(model, machine, n, batch, exchange=exchange, chunk=chunk)
            alone = cost.encoder_flops / (machine.used * machine.flops)
            alone += cost.gradient_bytes / machine.link
            cells = [
                f"{n}",
                exchange + (" (chosen)" if exchange == chosen else ""),
                f"{cost.encoder_flops / 1e12:.1f}",
                f"{cost.loss_flops / 1e12:.2f}",
                f"{cost.exchange_bytes / 1e9:.2f}",
                f"{cost.gradient_bytes / 1e9:.2f}",
                f"{cost.state_bytes / 1e9:.2f}",
                f"{cost.scratch_bytes / 1e9:.2f}",
                f"{1e3 * cost.seconds:.1f}",
                f"{100 * (1 - alone / cost.seconds):.1f}",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Prints the table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m launch.scaling")
    parser.add_argument("--machine", choices=sorted(MACHINES), default="h100-node")
    parser.add_argument("--batch", type=int, default=32_768)
    parser.add_argument("--chunk", type=int, default=128)
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 8, 64, 256])
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    wrong = [n for n in args.devices if n < 1 or args.batch % n]
    if wrong or args.batch < 1:
        parser.error(f"--batch {args.batch} does not split over {wrong} devices")
    machine = MACHINES[args.machine]
    print(f"ViT-B/32, batch {args.batch:,}, {args.machine}, chunks of {args.chunk}\n")
    print(table(VIT_B_32, machine, args.devices, args.batch, args.chunk))
    return 0


if __name__ == "__main__":
    sys.exit(main())

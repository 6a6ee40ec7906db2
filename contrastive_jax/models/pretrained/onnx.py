"""Weights of an ONNX file, read without a library of that format.

An ONNX file is a protocol-buffers message. Four of its messages are read: the model
holds a graph, which holds nodes (operations on named values) and initializers (arrays).
Matrices of linear layers may have lost their names (torch writes onnx::MatMul_123);
the name of their product tells the layer.
"""

import collections
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

# Numbers of the fields, by message (onnx.proto3).
MODEL_GRAPH = 7
GRAPH_NODE, GRAPH_INITIALIZER = 1, 5
NODE_INPUT, NODE_OUTPUT, NODE_OPERATION = 1, 2, 4
TENSOR_DIMS, TENSOR_TYPE, TENSOR_NAME, TENSOR_RAW = 1, 2, 8, 9
# Where values stand that are not raw bytes: of 32-bit and of 64-bit integers.
TENSOR_FLOATS, TENSOR_INTEGERS = 4, (5, 7)
TYPES = {
    1: np.dtype("<f4"),
    2: np.dtype("u1"),
    3: np.dtype("i1"),
    6: np.dtype("<i4"),
    7: np.dtype("<i8"),
    10: np.dtype("<f2"),
    11: np.dtype("<f8"),
}


class Node(NamedTuple):
    """An operation of a graph.

    Attributes:
      operation: its kind, as "MatMul".
      inputs: names of what it reads.
      outputs: names of what it writes.
    """

    operation: str
    inputs: list[str]
    outputs: list[str]


def read(path: str | pathlib.Path) -> tuple[list[Node], dict[str, np.ndarray]]:
    """The operations and the stored arrays of an ONNX file.

    Raises:
      ValueError: a damaged file, or one with arrays in other files.
    """
    try:
        model = memoryview(pathlib.Path(path).read_bytes())
        graphs = [value for number, value in fields(model) if number == MODEL_GRAPH]
        nodes, arrays = [], {}
        for number, value in fields(graphs[0]):
            if number == GRAPH_NODE:
                nodes.append(read_node(value))
            elif number == GRAPH_INITIALIZER:
                name, array = read_tensor(value)
                arrays[name] = array
    except (OSError, IndexError, KeyError, TypeError, ValueError) as e:
        raise ValueError(f"{path}: damaged ONNX file ({e})") from e
    return nodes, arrays


def fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    """Number and value of every field: an integer, or the bytes of a longer one.

    Raises:
      ValueError: a length beyond the message, or a kind of field that is not known.
    """
    at = 0
    while at < len(message):
        key, at = varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = varint(message, at)
        else:
            if kind == 2:
                size, at = varint(message, at)
            else:
                size = {1: 8, 5: 4}.get(kind, -1)
            if size < 0 or at + size > len(message):
                raise ValueError(f"field {number} of {size} bytes at {at}")
            value, at = message[at : at + size], at + size
        yield number, value


def varint(message: memoryview, at: int) -> tuple[int, int]:
    """An integer in groups of 7 bits, least first, and where it ends.

    Examples:
      >>> varint(memoryview(bytes([0xAC, 0x02])), 0)
      (300, 2)
    """
    value, shift = 0, 0
    while True:
        byte = message[at]
        value, at, shift = value | (byte & 127) << shift, at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError(f"integer without end at {at}")


def read_node(message: memoryview) -> Node:
    """One operation."""
    parts: dict[int, list[str]] = collections.defaultdict(list)
    for number, value in fields(message):
        if number in (NODE_INPUT, NODE_OUTPUT, NODE_OPERATION):
            parts[number].append(bytes(value).decode())
    return Node("".join(parts[NODE_OPERATION]), parts[NODE_INPUT], parts[NODE_OUTPUT])


def read_tensor(message: memoryview) -> tuple[str, np.ndarray]:
    """Name and values of an array."""
    name, dims, kind, listed = "", [], 0, []
    raw: memoryview | None = None
    for number, value in fields(message):
        several = not isinstance(value, int)
        if number == TENSOR_DIMS:
            dims += integers(value) if several else [value]
        elif number == TENSOR_TYPE:
            kind = value
        elif number == TENSOR_NAME:
            name = bytes(value).decode()
        elif number == TENSOR_RAW:
            raw = value
        elif number == TENSOR_FLOATS:
            listed += np.frombuffer(value, "<f4").tolist()
        elif number in TENSOR_INTEGERS:
            listed += integers(value) if several else [value]
    dtype = TYPES[kind]
    if raw is not None:
        return name, np.frombuffer(bytes(raw), dtype).reshape(dims)
    return name, np.asarray(listed).astype(dtype).reshape(dims)


def integers(packed: memoryview) -> list[int]:
    """Integers one after the other."""
    out, at = [], 0
    while at < len(packed):
        value, at = varint(packed, at)
        out.append(value)
    return out


def tensors(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """The weights of a transformer in an ONNX file, by the names they had in torch.

        x = scale (q - zero_point)        for arrays of 8-bit integers

    Matrices come as [out, in], as a torch layer holds them.

    Raises:
      ValueError: a damaged file.
    """
    nodes, arrays = read(path)
    out = {}
    for name, array in arrays.items():
        if name.endswith(("_scale", "_zero_point")):
            continue
        base = name.removesuffix("_quantized")
        if base != name:
            zero = arrays[f"{base}_zero_point"].astype(np.int32)
            whole = array.astype(np.int32) - zero
            array = whole.astype(np.float32) * arrays[f"{base}_scale"]
        if array.dtype == np.float32:
            out[base] = array
    for node in nodes:
        if node.operation in ("MatMul", "MatMulInteger") and len(node.inputs) > 1:
            base = node.inputs[1].removesuffix("_quantized")
            if base not in out:
                continue
            matrix = out.pop(base).T
            if base.startswith("onnx::"):
                # "/bert/encoder/layer.0/output/dense/MatMul_output_0", of its product.
                layer = node.outputs[0].strip("/").rpartition("/")[0]
                base = f"{layer.replace('/', '.')}.weight"
            out[base] = matrix
    return out

"""What each process of `test_distributed` runs, and what one process does instead.

python -m tests.parallel.processes FOLDER COORDINATOR NUM_PROCESSES PROCESS_ID
"""

import functools
import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax import data, losses, parallel, similarity
from contrastive_jax.parallel import distributed

ROWS, D, STEPS = 16, 6, 3
RNG = np.random.default_rng(0)
ARRAYS = {
    "x": RNG.normal(size=(40, D)).astype(np.float32),
    "y": RNG.normal(size=(40, D)).astype(np.float32),
    "where": RNG.random(40) < 0.7,
    "weights": RNG.random(40).astype(np.float32),
}
MAPPERS = (*parallel.MAPPERS, parallel.SHARDED)


def make_step(axis_name=None):
    """SGD on InfoNCE with masks, weights and noise per example."""

    def step(state, batch):
        n = len(batch["x"])
        keys = parallel.example_keys(state["rng"], state["step"], n, axis_name)
        noise = jax.vmap(lambda key: jax.random.normal(key, (D,)))(keys)

        def loss_fn(w):
            a = similarity.l2_normalize((batch["x"] + 0.1 * noise) @ w[:D])
            b = similarity.l2_normalize(batch["y"] @ w[:D])
            return losses.info_nce(
                similarity.dot(a, parallel.all_gather(b, axis_name)) / 0.1,
                parallel.global_rows(n, axis_name),
                where=parallel.all_gather(batch["where"], axis_name)[None]
                & batch["where"][:, None],
                weights=batch["weights"],
            )

        loss, grads = parallel.value_and_grad(loss_fn, axis_name)(state["w"])
        total = parallel.psum(jnp.sum(batch["weights"]), axis_name)
        norm = jnp.sqrt(jnp.sum(grads**2))
        new = {**state, "w": state["w"] - 0.5 * grads, "step": state["step"] + 1}
        return new, {"loss": loss, "total": total, "grad_norm": norm}

    return step


def start_state():
    w = np.zeros((1024, D), np.float32)  # large enough to be spread
    w[:D] = np.eye(D)
    return {
        "w": jnp.asarray(w),
        "rng": jax.random.key(0),
        "step": jnp.zeros((), jnp.int32),
    }


def train(mapper, devices=0):
    """The state and all metrics after a few steps."""
    step = parallel.data_parallel(functools.partial(make_step), mapper, devices=devices)
    source = data.array_batches(ARRAYS, batch_size=ROWS, seed=0)
    state, logged = start_state(), []
    for _, batch in zip(range(STEPS), source, strict=False):
        state, metrics = step(state, batch)
        logged.append([float(np.asarray(x)) for x in metrics.values()])
    state = distributed.local(state)
    return {"w": np.asarray(state["w"]), "metrics": np.array(logged)}


def reads():
    """The row numbers that are read for the first batches."""
    asked = []

    def read(numbers):
        asked.append(np.array(numbers))
        return {"x": np.asarray(numbers)}

    source = data.row_batches(data.Rows(40, read), batch_size=ROWS, seed=0)
    first = [next(source)["x"] for _ in range(2)]
    return np.stack(first), np.concatenate(asked)


def complaint(function, *args):
    """What a call raises, in words."""
    try:
        function(*args)
    except (distributed.DistributedError, ValueError) as e:
        return f"{type(e).__name__}: {e}"
    return ""


def main(folder, coordinator, count, own):
    distributed.start(distributed.find(coordinator, int(count), int(own)), 120.0)
    out, said = {}, {"exchanged": distributed.exchange("own", f"text {own}")}
    for mapper in MAPPERS:
        out |= {f"{mapper}/{key}": x for key, x in train(mapper).items()}
    out["batches"], out["asked"] = reads()
    whole = iter([{"x": np.zeros((4, 2))}])
    said["same rows"] = complaint(next, distributed.checked(whole))
    said["odd"] = complaint(distributed.own_rows, np.zeros(5))
    said["devices"] = complaint(parallel.choose_devices, 1)
    said["missing"] = ""
    if own == "0":
        said["missing"] = complaint(distributed.barrier, "report", 1.0)
    distributed.barrier("end")
    place = pathlib.Path(folder)
    np.savez(place / f"{own}.npz", **out)
    (place / f"{own}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])

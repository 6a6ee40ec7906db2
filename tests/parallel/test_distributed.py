"""Several real processes, over loopback, give what one gives."""

import concurrent.futures
import dataclasses
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from contrastive_jax import parallel
from contrastive_jax.parallel import distributed
from launch.local_processes import free_port
from tests.parallel import processes

ROOT = pathlib.Path(distributed.__file__).parent.parent.parent


@pytest.mark.parametrize(
    ("given", "environ", "expected"),
    [
        ((), {}, None),
        ((None, 1, 0), {}, None),
        (("a:1", 2, 1), {}, ("a:1", 2, 1)),
        (("auto", None, None), {}, ("auto", 0, 0)),
        (
            (),
            {
                "JAX_COORDINATOR_ADDRESS": "job-0:9",
                "JAX_NUM_PROCESSES": "4",
                "JAX_PROCESS_ID": "3",
            },
            ("job-0:9", 4, 3),
        ),
        (
            (),
            {
                "SLURM_JOB_ID": "4097",
                "SLURM_NTASKS": "2",
                "SLURM_PROCID": "1",
                "SLURM_STEP_NODELIST": "gpu[07-09]",
            },
            ("gpu07:61441", 2, 1),
        ),
        # Independent runs beside each other.
        (
            (None, 1, None),
            {
                "SLURM_NTASKS": "2",
                "SLURM_PROCID": "1",
                "SLURM_STEP_NODELIST": "a",
            },
            None,
        ),
        # A batch script that has not called srun, and one task.
        ((), {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "2", "SLURM_PROCID": "0"}, None),
        (
            (),
            {
                "SLURM_NTASKS": "1",
                "SLURM_PROCID": "0",
                "SLURM_STEP_NODELIST": "a",
            },
            None,
        ),
    ],
)
def test_processes_are_found(given, environ, expected):
    found = distributed.find(*given, environ=environ)
    assert found == (expected and distributed.Cluster(*expected))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("a:1", 2, None), r"--process-id \(or JAX_PROCESS_ID\) is missing"),
        ((None, 2, 0), "--coordinator .* is missing"),
        (("a", 2, 0), "--coordinator: expected HOST:PORT"),
        (("a:1", 2, 2), "--process-id: expected 0 to 1, got 2"),
        (("a:1", None, 0), "--num-processes: expected a number, got 'two'"),
    ],
)
def test_wrong_processes_are_refused(given, message):
    environ = {"JAX_NUM_PROCESSES": "two"} if given[1:] == (None, 0) else {}
    with pytest.raises(distributed.DistributedError, match=message):
        distributed.find(*given, environ=environ)


def test_unreachable_coordinator_is_named():
    cluster = distributed.Cluster(f"127.0.0.1:{free_port()}", 2, 1)
    with pytest.raises(
        distributed.DistributedError,
        match=rf"process 1: the coordinator {cluster.coordinator} cannot be reached",
    ):
        distributed.start(cluster, timeout=0.5)


def test_taken_port_is_named():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(
            distributed.DistributedError,
            match=rf"{address}: this process cannot listen on port .*choose another",
        ):
            distributed.start(distributed.Cluster(address, 2, 0), timeout=5.0)


def test_missing_processes_are_named():
    cluster = distributed.Cluster(f"127.0.0.1:{free_port()}", 3, 0)
    with pytest.raises(
        distributed.DistributedError, match="processes 1, 2 of 3 did not connect"
    ):
        distributed.start(cluster, timeout=0.5)


def test_strangers_at_the_port_are_no_processes():
    """A port scan does not count, nor does it end the wait."""
    cluster = distributed.Cluster(f"127.0.0.1:{free_port()}", 2, 0)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(distributed.meet, cluster, 30.0)
        host, _, port = cluster.coordinator.partition(":")
        until = time.monotonic() + 10
        while True:
            try:
                with socket.create_connection((host, int(port)), timeout=1) as stranger:
                    stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
                break
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.02)
        assert not first.done()
        distributed.meet(dataclasses.replace(cluster, process_id=1), 30.0)
        assert first.result(30) is None


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Arrays and words of two processes with one device each."""
    folder, address = tmp_path_factory.mktemp("two"), f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "tests.parallel.processes", str(folder), address]
    environ = os.environ | {"JAX_NUM_CPU_DEVICES": "1", "JAX_PLATFORMS": "cpu"}
    started = [
        subprocess.Popen([*command, "2", str(i)], cwd=ROOT, env=environ)
        for i in range(2)
    ]
    try:
        assert [process.wait(300) for process in started] == [0, 0]
    finally:
        for process in started:
            process.kill()
    arrays = [dict(np.load(folder / f"{i}.npz")) for i in range(2)]
    return arrays, [json.loads((folder / f"{i}.json").read_text()) for i in range(2)]


@pytest.mark.parametrize("mapper", processes.MAPPERS)
def test_two_processes_train_as_one(two, mapper):
    """Loss, gradient norm, sum and parameters, with weights, masks and noise."""
    one = processes.train(mapper, devices=2)
    assert np.abs(one["w"][:6] - np.eye(6)).max() > 0.01
    for arrays in two[0]:
        got = arrays[f"{mapper}/metrics"]
        np.testing.assert_allclose(got, one["metrics"], rtol=1e-6)
        np.testing.assert_allclose(arrays[f"{mapper}/w"], one["w"], atol=1e-6)
    first, second = two[0]
    np.testing.assert_array_equal(first[f"{mapper}/w"], second[f"{mapper}/w"])


def test_each_process_reads_its_own_rows_and_no_others(two):
    whole, _ = processes.reads()
    parts = [arrays["batches"] for arrays in two[0]]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    first, second = (arrays["asked"] for arrays in two[0])
    ahead = min(len(first), len(second)) // (processes.ROWS // 2)
    for t in range(ahead):
        rows = slice(t * 8, (t + 1) * 8)
        assert not set(first[rows]) & set(second[rows])


def test_processes_exchange_texts_and_name_who_is_missing(two):
    for words in two[1]:
        assert words["exchanged"] == ["text 0", "text 1"]
    assert two[1][0]["missing"] == (
        "DistributedError: report: process 1 of 2 did not come within 1 s"
    )


def test_processes_refuse_what_they_cannot_split(two):
    for words in two[1]:
        assert re.match(r"ValueError: batches: processes 0, 1 read", words["same rows"])
        assert words["odd"] == "ValueError: batch: 5 rows do not split over 2 processes"
        assert "expected 0 (all 2 of 2 processes), got 1" in words["devices"]


def test_one_process_is_itself():
    assert distributed.exchange("x", "text") == ["text"]
    assert parallel.is_first()
    rows = {"x": np.arange(5)}
    assert parallel.own_rows(rows) is rows
    assert distributed.everywhere(rows) is rows and distributed.local(rows) is rows

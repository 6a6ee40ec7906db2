"""`launch/slurm`, `tpu_pod` and `k8s/submit`: exact commands, quoting, and real starts.

Fake `sbatch`, `srun`, `gcloud` and `kubectl` on the PATH write down their arguments and
start the processes on this machine.
"""

import json
import os
import pathlib
import socket
import stat
import subprocess
import sys

import pytest
import yaml

from launch import local_processes, slurm, tpu_pod
from launch.k8s import submit

ROOT = pathlib.Path(slurm.__file__).parent.parent
ODD = 'data.name=it\'s $HOME; "x" `y`'
SMALL = [
    "simclr:smoke",
    "train.num_steps=4",
    "train.save_every=2",
    "watch.every=0",
    "eval.train_limit=64",
    "eval.test_limit=64",
]
# What the fakes share: `record` their words, `start` the processes of a run.
FAKE = """#!{python}
import json, os, pathlib, shlex, subprocess, sys
place = pathlib.Path({place!r})


def record():
    with (place / "calls.jsonl").open("a") as file:
        words = [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]
        file.write(json.dumps(words) + "\\n")


def start(words, environments):
    run = [sys.executable, "-m", "launch.run", *words]
    started = [
        subprocess.Popen(run, env=os.environ | more, cwd=place) for more in environments
    ]
    return max([abs(process.wait()) for process in started])


record()
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Makes a command of that name; `fake.calls()` are the words of all so far."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
    monkeypatch.chdir(tmp_path)

    def make(name, body):
        file = folder / name
        head = FAKE.format(python=sys.executable, place=str(tmp_path))
        file.write_text(head + body)
        file.chmod(file.stat().st_mode | stat.S_IXUSR)

    def calls():
        text = (tmp_path / "calls.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    make.calls = calls
    return make


def result(folder):
    """The record of a run by two processes."""
    found = json.loads((folder / "result.json").read_text())
    assert found["machine"]["processes"] == 2
    return found


def words_of(text):
    """The words that a shell makes of a text."""
    command = f"for word in {text}; do printf '%s\\0' \"$word\"; done"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    return done.stdout.split("\0")[:-1]


def test_slurm_shows_command_and_script(capsys):
    more = ["--nodes", "4", "--gpus-per-node", "8", "--option=--exclusive"]
    assert slurm.main(["simclr:paper", ODD, *more, "--dry-run"]) == 0
    command, script = capsys.readouterr().out.split("\n", 1)
    assert command == (
        "sbatch --parsable --requeue --job-name=simclr:paper --nodes=4 "
        "--ntasks-per-node=1 --gpus-per-node=8 --time=4:00:00 --signal=TERM@120 "
        "--output=slurm-%j.out --open-mode=append --exclusive <<'EOF'"
    )
    line = next(x for x in script.splitlines() if x.startswith("srun"))
    run = line.removeprefix("srun --kill-on-bad-exit=1 ").removesuffix(" || status=$?")
    assert words_of(run) == [str(ROOT / "launch/run"), "simclr:paper", ODD]


def test_slurm_queues_a_stopped_job_again(fake, monkeypatch):
    fake(
        "sbatch",
        "sys.exit(subprocess.run(['bash'], input=sys.stdin.read(), text=1).returncode)",
    )
    fake("srun", "sys.exit(75)")
    fake("scontrol", "")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert slurm.main(["simclr:smoke", ODD]) == 75
    assert [call[0] for call in fake.calls()] == ["sbatch", "srun", "scontrol"]
    assert fake.calls()[1][-2:] == ["simclr:smoke", ODD]
    assert fake.calls()[2] == ["scontrol", "requeue", "7"]
    fake("srun", "sys.exit(1)")
    assert slurm.main(["simclr:smoke"]) == 1
    assert fake.calls()[-1][0] == "srun"  # no third command


def test_tpu_pod_shows_its_commands(capsys):
    words = ["big", "simclr:paper", ODD, "--type", "v5litepod-16", "--zone", "z1"]
    assert tpu_pod.main([*words, "--spot", "--project", "p", "--dry-run"]) == 0
    lines = [words_of(x) for x in capsys.readouterr().out.splitlines()]
    assert [x[3:5] for x in lines] == [
        ["queued-resources", "create"],
        ["queued-resources", "describe"],
        ["tpu-vm", "ssh"],
        ["tpu-vm", "scp"],
        ["tpu-vm", "ssh"],
        ["queued-resources", "delete"],
    ]
    assert all(x[:3] == ["gcloud", "compute", "tpus"] for x in lines)
    assert all({"--zone=z1", "--project=p"} <= set(x) for x in lines)
    assert {"--accelerator-type=v5litepod-16", "--spot"} <= set(lines[0])
    remote = lines[4][-1].removeprefix("--command=").rpartition(" && ")[2]
    assert words_of(remote) == [
        "launch/run",
        "simclr:paper",
        ODD,
        "--coordinator",
        "auto",
    ]


GCLOUD = """
state = place / "state"
if "create" in sys.argv:
    state.write_text("ACTIVE")
elif "describe" in sys.argv:
    print(state.read_text() if state.exists() else "")
elif "delete" in sys.argv:
    state.unlink()
elif "ssh" in sys.argv and "launch/run" in sys.argv[-1]:
    sys.exit({body})
"""


def test_tpu_pod_deletes_what_it_asked_for(fake, tmp_path):
    words = ["big", "simclr:smoke", "--type", "v5litepod-16", "--zone", "z1"]
    fake("gcloud", GCLOUD.format(body="3"))
    assert tpu_pod.main(words) == 3
    assert not (tmp_path / "state").exists()
    kinds = [x[4] for x in fake.calls()]
    assert kinds == ["describe", "create", "describe", "ssh", "scp", "ssh", "delete"]
    # A slice that was preempted is deleted and asked for anew; --keep keeps it.
    (tmp_path / "state").write_text("SUSPENDED")
    assert tpu_pod.main([*words, "--keep"]) == 3
    assert (tmp_path / "state").read_text() == "ACTIVE"
    kinds = [x[4] for x in fake.calls()][len(kinds) :]
    assert kinds == ["describe", "delete", "create", "describe", "ssh", "scp", "ssh"]


JOBSET = ["big", "simclr:paper", ODD, "--image", "r/i:1", "--claim", "runs"]


def test_jobset_is_what_kubernetes_reads(capsys):
    more = ["--hosts", "4", "--device", "nvidia.com/gpu=8", "--select", "pool=a100"]
    assert submit.main([*JOBSET, *more, "--namespace", "ml", "--dry-run"]) == 0
    command, text = capsys.readouterr().out.split("\n", 1)
    assert command == "kubectl apply -f - --namespace=ml <<'EOF'"
    jobset = yaml.safe_load(text.removesuffix("EOF\n"))
    assert (jobset["apiVersion"], jobset["kind"]) == (
        "jobset.x-k8s.io/v1alpha2",
        "JobSet",
    )
    spec = jobset["spec"]
    assert spec["network"]["enableDNSHostnames"] is True
    (group,) = spec["replicatedJobs"]
    job = group["template"]["spec"]
    assert job["completionMode"] == "Indexed"
    assert job["completions"] == job["parallelism"] == 4
    pod = job["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["nodeSelector"] == {"pool": "a100"}
    assert pod["securityContext"]["runAsNonRoot"] is True
    (container,) = pod["containers"]
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["resources"] == {"limits": {"nvidia.com/gpu": 8}}
    assert container["command"] == [
        "python",
        "-m",
        "launch.run",
        "simclr:paper",
        ODD,
        "--workdir",
        "/runs/big",
    ]
    environ = {x["name"]: x.get("value") for x in container["env"]}
    # Pod 0 of job 0 of group "host", under the subdomain.
    host = f"big-{group['name']}-0-0.{spec['network']['subdomain']}"
    assert environ["JAX_COORDINATOR_ADDRESS"] == f"{host}:8476"
    assert environ["JAX_NUM_PROCESSES"] == "4"
    (volume,) = pod["volumes"]
    assert volume["persistentVolumeClaim"] == {"claimName": "runs"}
    assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/runs"}]


@pytest.mark.parametrize(
    ("main", "words", "message"),
    [
        (slurm.main, ["--nodes", "2"], "name an experiment first"),
        (slurm.main, ["simclr", "--nodes", "0"], "--nodes: expected 1 or more, got 0"),
        (tpu_pod.main, ["big", "--type", "t", "--zone", "z"], "name an experiment"),
        (
            tpu_pod.main,
            ["Big_1", "simclr", "--type", "t", "--zone", "z"],
            "NAME: expected small letters, digits and -, got 'Big_1'",
        ),
        (submit.main, [*JOBSET, "--hosts", "0"], "--hosts: expected 1 or more, got 0"),
        (submit.main, [*JOBSET, "--device", "gpu"], "expected KEY=VALUE, got 'gpu'"),
        (submit.main, ["a" * 41, *JOBSET[1:]], "NAME: expected up to 40"),
    ],
)
def test_wrong_words_are_refused(main, words, message, capsys):
    with pytest.raises(SystemExit) as e:
        main(words)
    assert e.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("main", "words"),
    [
        (slurm.main, ["simclr:smoke"]),
        (tpu_pod.main, ["big", "simclr:smoke", "--type", "t", "--zone", "z"]),
        (submit.main, JOBSET),
    ],
)
def test_missing_program_is_named(main, words, monkeypatch, capfd):
    monkeypatch.setenv("PATH", "")
    assert main(words) == 2
    assert "on this machine" in capfd.readouterr().err


def free_job() -> int:
    """A number of a SLURM job whose port is free here."""
    for job in range(4096):
        try:
            socket.create_server(("", 61440 + job)).close()
            return job
        except OSError:
            pass
    raise OSError("no free port")


@pytest.mark.slow
def test_slurm_starts_real_processes(fake, tmp_path, monkeypatch):
    fake(
        "sbatch",
        "sys.exit(subprocess.run(['bash'], input=sys.stdin.read(), text=1).returncode)",
    )
    fake(
        "srun",
        "steps = {'SLURM_NTASKS': '2', 'SLURM_STEP_NODELIST': 'localhost'}\n"
        "sys.exit(start(sys.argv[3:], [steps | {'SLURM_PROCID': i} for i in '01']))",
    )
    monkeypatch.setenv("SLURM_JOB_ID", str(free_job()))
    assert slurm.main([*SMALL, "--workdir", "a run", "--nodes", "2"]) == 0
    assert result(tmp_path / "a run")["config"]["train"]["num_steps"] == 4
    assert fake.calls()[1][2] == str(ROOT / "launch/run")


@pytest.mark.slow
def test_tpu_pod_starts_real_processes(fake, tmp_path):
    port = local_processes.free_port()
    body = f"""start(
        shlex.split(sys.argv[-1].rpartition(" && ")[2])[1:-2],
        [{{"JAX_COORDINATOR_ADDRESS": "localhost:{port}", "JAX_NUM_PROCESSES": "2",
           "JAX_PROCESS_ID": i}} for i in "01"],
    )"""
    fake("gcloud", GCLOUD.replace("{body}", body))
    words = ["big", *SMALL, "--workdir", "a run", "--type", "t", "--zone", "z"]
    assert tpu_pod.main(words) == 0
    assert result(tmp_path / "a run")["config"]["train"]["num_steps"] == 4
    assert fake.calls()[-1][4] == "delete"


@pytest.mark.slow
def test_jobset_starts_real_processes(fake, tmp_path, monkeypatch):
    """The pods' command and environment; of the host name, the address stays here."""
    fake(
        "kubectl",
        "import yaml\n"
        "jobset = yaml.safe_load(sys.stdin)\n"
        "job = jobset['spec']['replicatedJobs'][0]['template']['spec']\n"
        "pod = job['template']['spec']['containers'][0]\n"
        "more = {x['name']: x['value'] for x in pod['env'] if 'value' in x}\n"
        "port = more['JAX_COORDINATOR_ADDRESS'].rpartition(':')[2]\n"
        "more['JAX_COORDINATOR_ADDRESS'] = 'localhost:' + port\n"
        "del more['HOME']\n"
        "words = [x.replace('/runs', str(place)) for x in pod['command'][3:]]\n"
        "sys.exit(start(words, [more | {'JAX_PROCESS_ID': str(i)}\n"
        "                       for i in range(job['completions'])]))",
    )
    monkeypatch.setattr(submit, "PORT", local_processes.free_port())
    more = ["--image", "i", "--claim", "runs", "--hosts", "2"]
    assert submit.main(["big", *SMALL, *more]) == 0
    assert result(tmp_path / "big")["config"]["train"]["num_steps"] == 4
    assert fake.calls() == [["kubectl", "apply", "-f", "-"]]

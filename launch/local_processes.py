"""One run by several processes of this machine, connected over loopback.

    python -m launch.local_processes 2 simclr:smoke --devices-per-process 2

Each line they print begins with the number of the process. SIGTERM and SIGINT go to all
of them, which save the same step and end with 75. When one ends otherwise, the others
have `--timeout` seconds to notice, and are then killed; the status is that of the first
to fail (128 + its number for a signal). The same command goes on from the newest
checkpoint.
"""

import argparse
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

# Return codes of processes that somebody killed.
KILLED = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT)


def parse_args(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """The command line, and what of it is for `launch/run`."""
    parser = argparse.ArgumentParser(
        prog="launch/local_processes",
        usage="%(prog)s N EXPERIMENT[:VARIANT] [options of launch/run] "
        "[--devices-per-process M] [--timeout SECONDS] [--dry-run]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("processes", type=int, metavar="N", help="how many processes")
    parser.add_argument(
        "--devices-per-process",
        type=int,
        default=1,
        metavar="M",
        help="CPU devices that each emulates (default: 1)",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=25,
        metavar="SECONDS",
        help="until a process that gives no sign of life is given up (default: 25)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the commands, and stop"
    )
    args, rest = parser.parse_known_args(argv)
    for name, least in (("processes", 1), ("devices_per_process", 1), ("timeout", 1)):
        if getattr(args, name) < least:
            parser.error(f"{name}: expected {least} or more, got {getattr(args, name)}")
    if not rest:
        parser.error("name an experiment")
    return args, rest


def free_port() -> int:
    """A port of the loopback interface that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def commands(count: int, words: Sequence[str], port: int) -> list[list[str]]:
    """The command of every process."""
    shared = ["--coordinator", f"127.0.0.1:{port}", "--num-processes", str(count)]
    run = [sys.executable, "-m", "launch.run", *words, *shared]
    return [[*run, "--process-id", str(i)] for i in range(count)]


def environment(devices: int, timeout: float) -> dict[str, str]:
    """What the processes find in their environment besides what is there."""
    return {
        "CONTRASTIVE_JAX_TIMEOUT": f"{timeout:g}",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_PLATFORMS": "cpu",
        "PYTHONUNBUFFERED": "1",
    }


def copy_lines(number: int, process: subprocess.Popen) -> None:
    """Prints what a process prints."""
    for line in process.stdout or ():
        sys.stdout.write(f"[{number}] {line}")
        sys.stdout.flush()


def send(processes: Sequence[subprocess.Popen], number: int) -> None:
    """Sends a signal to those that have not ended."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)


def wait(processes: Sequence[subprocess.Popen], timeout: float) -> int:
    """Waits for all, or ends those left over by one that failed; the status."""
    failed, until = None, 0.0
    while None in (codes := [process.poll() for process in processes]):
        bad = [i for i, code in enumerate(codes) if code]
        if bad and failed is None:
            # Of those found together one that was killed, which the others suffer from.
            failed = min(bad, key=lambda i: (codes[i] not in KILLED, i))
            until = time.monotonic() + timeout
            if codes[failed] != 75:
                print(
                    f"launch/local_processes: process {failed} ended with "
                    f"{status(codes[failed])}; the others have {timeout:g} s",
                    file=sys.stderr,
                )
        if failed is not None and time.monotonic() > until:
            left = [i for i, code in enumerate(codes) if code is None]
            print(
                f"launch/local_processes: killed after {timeout:g} s: process "
                f"{', '.join(map(str, left))}",
                file=sys.stderr,
            )
            send(processes, signal.SIGKILL)
            until = float("inf")
        time.sleep(0.05)
    if failed is None:
        order = sorted(range(len(codes)), key=lambda i: (codes[i] not in KILLED, i))
        failed = next((i for i in order if codes[i]), 0)
    return status(codes[failed])


def status(code: int) -> int:
    """A return code as a shell gives it."""
    return 128 - code if code < 0 else code


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    args, words = parse_args(argv)
    more = environment(args.devices_per_process, args.timeout)
    planned = commands(args.processes, words, free_port())
    if args.dry_run:
        given = " ".join(f"{name}={shlex.quote(x)}" for name, x in more.items())
        for command in planned:
            print(given, shlex.join(command))
        return 0
    processes = [
        subprocess.Popen(
            command,
            env=os.environ | more,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C comes by us, once
        )
        for command in planned
    ]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda n, _: send(processes, n))
    readers = [
        threading.Thread(target=copy_lines, args=pair) for pair in enumerate(processes)
    ]
    for reader in readers:
        reader.start()
    code = wait(processes, args.timeout)
    for reader in readers:
        reader.join()
    return code


if __name__ == "__main__":
    sys.exit(main())

"""The results tables: an experiment over seeds, and what all of them gave.

    python -m launch.reproduce simclr:fashion --seeds 0 1 2
    python -m launch.reproduce supcon --seeds 0 1 2 --set loss.form=in
    python -m launch.reproduce simclr --seeds 0 1 2 --compare simclr/knn pixels/knn
    python -m launch.reproduce                         every committed figure

Runs the seeds that are not complete under runs/, one after the other, and writes
mean, standard deviation (of the sample) and values of every metric to
`experiments/NAME/results.json`: one entry per variant and settings, with command,
versions, machine, wall times and revisions. Prints the table that the experiment's
README shows. `--compare A B` (as often as needed) adds the difference A - B of two
metrics over the seeds with a paired t test, two-sided. `--picture WORDS` (as often as
needed) takes the picture whose description holds these words from the first seed's
report into `experiments/NAME/images/`. Without an experiment it prints the entries that
are there.
"""

import argparse
import base64
import html
import json
import pathlib
import re
import shlex
import sys
from typing import Any

from launch import run as one
from launch import sweep
from launch.figures import shown, summary

FILE = "results.json"


def entries(name: str) -> list[dict[str, Any]]:
    """What the results.json of an experiment holds; nothing when there is none."""
    file = one.ROOT / "experiments" / name / FILE
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else []


def comparison(a: str, b: str, metrics: dict[str, Any]) -> dict[str, Any]:
    """Differences of two metrics over the seeds; p is None where there is no test.

    Raises:
      WrongInput: no such metric.
    """
    from scipy import stats

    for name in (a, b):
        if name not in metrics:
            raise one.WrongInput(f"--compare: no metric {name!r}; {', '.join(metrics)}")
    pairs = zip(metrics[a]["values"], metrics[b]["values"], strict=True)
    found = summary([x - y for x, y in pairs])
    p = None
    if found["std"] > 0:
        p = float(stats.ttest_1samp(found["values"], 0.0).pvalue)
    return {"a": a, "b": b, **found, "p": p}


def entry(
    experiment: str,
    seeds: list[int],
    changes: list[str],
    compare: list[list[str]],
) -> dict[str, Any]:
    """The entry of finished runs, from the result.json of each.

    Raises:
      WrongInput: a run is not complete, two were run with other versions, or a metric
        to compare is not among theirs.
    """
    name, _, variant = experiment.partition(":")
    results = []
    for seed in seeds:
        file = one.default_workdir(name, variant, seed, changes) / "result.json"
        if not file.exists():
            raise one.WrongInput(f"{file} is not there: the run is not complete")
        results.append(json.loads(file.read_text(encoding="utf-8")))
    for key in ("versions", "machine"):
        if any(result[key] != results[0][key] for result in results):
            raise one.WrongInput(f"{name}: the runs of seeds {seeds} differ in {key}")
    words = ["python", "-m", "launch.reproduce", experiment]
    words += ["--seeds", *map(str, seeds), *(["--set", *changes] if changes else [])]
    words += [word for pair in compare for word in ("--compare", *pair)]
    metrics = {
        key: summary([float(result["metrics"][key]) for result in results])
        for key in results[0]["metrics"]
    }
    return {
        "variant": variant,
        "set": changes,
        "seeds": seeds,
        "command": shlex.join(words),
        "metrics": metrics,
        "comparisons": [comparison(a, b, metrics) for a, b in compare],
        "wall_seconds": [result["wall_seconds"] for result in results],
        "git_revisions": sorted({result["git_revision"] for result in results}),
        "versions": results[0]["versions"],
        "machine": results[0]["machine"],
    }


def store(name: str, new: dict[str, Any]) -> pathlib.Path:
    """Puts an entry into results.json, in place of that of the same settings."""
    from contrastive_jax.report import record

    def key(x):
        return x["variant"], sorted(x["set"])

    kept = [x for x in entries(name) if key(x) != key(new)]
    text = json.dumps(sorted([*kept, new], key=key), indent=1) + "\n"
    return record.write_atomic(one.ROOT / "experiments" / name / FILE, text)


def table(found: dict[str, Any]) -> str:
    """The entry as a table: a row per name before the slash, a column per measure."""
    rows: dict[str, dict[str, str]] = {}
    columns: dict[str, None] = {}
    for key, x in found["metrics"].items():
        row, _, column = key.rpartition("/")
        rows.setdefault(row, {})[column] = shown(x)
        columns[column] = None
    lines = [f"| | {' | '.join(columns)} |", f"|{' --- |' * (len(columns) + 1)}"]
    for row, cells in rows.items():
        inside = " | ".join(cells.get(column, "") for column in columns)
        lines.append(f"| {row} | {inside} |")
    return "\n".join(lines)


def compared(found: dict[str, Any]) -> list[str]:
    """The comparisons of an entry, a line each."""
    lines = []
    for x in found["comparisons"]:
        p = "no test" if x["p"] is None else f"paired t test p = {x['p']:.2g}"
        lines.append(f"{x['a']} - {x['b']}: {shown(x)} ({p})")
    return lines


def about(found: dict[str, Any]) -> str:
    """Where an entry comes from, in one line under its table."""
    seconds = " ".join(f"{x:.0f}" for x in found["wall_seconds"])
    machine, versions = found["machine"], found["versions"]
    return (
        f"{found['command']}: wall time {seconds} s, {machine['devices']} x "
        f"{machine['device']} ({machine['cpu_cores']} cores), Python "
        f"{versions['python']}, jax {versions['jax']}"
    )


def slug(words: str) -> str:
    """Words as the name of a file.

    Examples:
      >>> slug("Loss over time, 2 seeds")
      'loss_over_time_2_seeds'
    """
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")


def save_picture(name: str, workdir: pathlib.Path, words: str) -> pathlib.Path:
    """The first picture of a report whose description holds the words, as a file.

    Raises:
      WrongInput: no report, or no such picture in it.
    """
    file = workdir / "report.html"
    if not file.exists():
        raise one.WrongInput(f"{file} is not there: the run is not complete")
    pattern = r'<img alt="([^"]*)" src="data:image/png;base64,([^"]+)">'
    found = re.findall(pattern, file.read_text(encoding="utf-8"))
    pictures = [(html.unescape(alt), data) for alt, data in found]
    for alt, data in pictures:
        if words in alt:
            folder = one.ROOT / "experiments" / name / "images"
            picture = folder / f"{slug(words)}.png"
            picture.parent.mkdir(exist_ok=True)
            picture.write_bytes(base64.b64decode(data))
            return picture
    raise one.WrongInput(
        f"--picture: no picture {words!r}; {'; '.join(alt for alt, _ in pictures)}"
    )


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    arguments = sweep.parser("python -m launch.reproduce", __doc__)
    arguments.add_argument(
        "--collect", action="store_true", help="only read runs that are complete"
    )
    arguments.add_argument(
        "--compare", nargs=2, action="append", default=[], metavar=("A", "B")
    )
    arguments.add_argument("--picture", action="append", default=[], metavar="WORDS")
    return one.read_words(arguments, argv)


def show(found: dict[str, Any]) -> None:
    """Prints an entry."""
    print("", table(found), "", *compared(found), about(found), sep="\n")


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    args = parse_args(argv)
    if args.experiment is None:
        for name in one.experiments():
            for found in entries(name):
                print(f"\n{name}:{found['variant'] or 'default'} {found['set'] or ''}")
                show(found)
        return 0
    try:
        name = args.experiment.partition(":")[0]
        sweep.check(args.experiment, args.set)
        if not args.collect:
            runs = sweep.runs_of(args.experiment, [args.set], args.seeds)
            code = sweep.start(runs, retry=True)
            if code:
                return code
        found = entry(args.experiment, args.seeds, args.set, args.compare)
        variant = args.experiment.partition(":")[2]
        first = one.default_workdir(name, variant, args.seeds[0], args.set)
        pictures = [save_picture(name, first, words) for words in args.picture]
    except one.WrongInput as e:
        print(f"launch.reproduce: {e}", file=sys.stderr)
        return one.WRONG_INPUT
    show(found)
    print(store(name, found), *pictures, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

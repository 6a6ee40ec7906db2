"""The report: one size of letters, both themes, and where its figures come from."""

import json

from matplotlib.figure import Figure
from matplotlib.text import Text

from contrastive_jax.report import Report, page, record


class Device:
    platform, device_kind, process_index = "cpu", "emulated", 0


def test_letters_have_one_size():
    figure = Figure()
    axes = figure.add_subplot()
    axes.plot([1, 2], label="a")
    axes.set_title("a", fontsize=30)
    axes.legend(fontsize=3)
    assert page.png(figure).startswith(b"\x89PNG")
    assert {text.get_fontsize() for text in figure.findobj(Text)} == {page.POINTS}


def test_a_report_ends_with_where_it_comes_from(tmp_path):
    report = Report("A run")
    report.training({"m": [{"step": 1, "loss": 3.0}]}, chance={"loss": 2.5})
    report.write(tmp_path)
    record.write_result(
        tmp_path,
        experiment="simclr",
        variant="smoke",
        config={"seed": 3},
        metrics={},
        wall_seconds=61.0,
        devices=[Device()],
        code={"experiments/simclr": "0123"},
    )
    page.add_provenance(tmp_path)
    text = (tmp_path / page.REPORT).read_text()
    head, _, block = text.partition("Where these figures come from")
    assert block.endswith("</table></body></html>") and "</body>" not in head
    result = json.loads((tmp_path / record.RESULT).read_text())
    told = ("simclr:smoke", "1 x emulated", "jax ", "61 s", "experiments/simclr 0123")
    for words in (*told, result["finished"], result["git_revision"] or "not in git"):
        assert words in block, words
    assert "prefers-color-scheme: dark" in text


def test_a_run_without_a_report_gets_none(tmp_path):
    page.add_provenance(tmp_path)
    assert list(tmp_path.iterdir()) == []

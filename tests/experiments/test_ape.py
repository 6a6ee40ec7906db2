"""APE through the command line: a run, its files, scores of events that come in."""

import json

import numpy as np
import pytest

from contrastive_jax.data import events, packaged
from contrastive_jax.training import checkpoint
from experiments.ape import config as configs
from experiments.ape import data, experiment
from launch import run


def stand_in(monkeypatch):
    """Events of eight types: those of the paper are not public."""
    types, names = tuple(map(str, range(8))), tuple(map(str, range(200)))
    rows = np.random.default_rng(0).integers(0, 200, (1000, 8))
    logs = events.EventSet(types, (names,) * 8, rows, rows[:0], rows[:0])
    monkeypatch.setattr(events, "load", lambda *_: logs)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished smoke run."""
    workdir = tmp_path_factory.mktemp("ape")
    assert run.main(["ape:smoke", "--workdir", str(workdir), "--devices", "1"]) == 0
    return workdir


def test_result_and_report(done, capsys):
    result = json.loads((done / "result.json").read_text())
    methods = {key.split("/")[1] for key in result["metrics"]}
    assert methods == {*experiment.METHODS, "unigram", "pair_ratio", "isolation_forest"}
    assert result["metrics"]["synthetic/ape/auc_3"] > 90
    assert result["metrics"]["synthetic/unigram/auc_3"] < 60
    page = (done / "report.html").read_text()
    for text in (
        "precision-recall curves",
        "map of embeddings",
        "weights of the pairs",
    ):
        assert text in page
    argv = ["ape:smoke", "--workdir", str(done), "--devices", "1"]
    assert run.main(argv) == 0
    assert "is complete in" in capsys.readouterr().out


def test_scores_of_single_events(done):
    config = configs.get_config("smoke")
    manager = checkpoint.Manager(done / "synthetic" / "ape" / "checkpoints")
    state, step = manager.restore(experiment.init(config))
    manager.close()
    assert step == config.train.num_steps
    score = experiment.make_scorer(config, state)
    found = data.load(config)
    usual = [found.entities[i][x] for i, x in enumerate(found.test[0])]
    known = score(usual)
    assert known.unseen == ()
    batch = experiment.scores(config, state, {0: found.test[:1]})[0]
    np.testing.assert_allclose(known.anomaly, batch[0], rtol=1e-5)
    new = score(["nobody", *usual[1:]])
    assert new.unseen == ("user",) and np.isfinite(new.anomaly)
    assert new.anomaly > known.anomaly
    nothing = score(["?"] * 5)
    assert nothing.unseen == found.types
    np.testing.assert_allclose(nothing.anomaly, -state.params["bias"], rtol=1e-5)
    with pytest.raises(ValueError, match="event: expected one entity of each of user"):
        score(usual[1:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.sets=nights", "data.sets: expected names of birdstrikes, flights, syn"),
        ("data.data_dir=nowhere", "synthetic.csv is not there: a CSV file"),
        ("data.train_share=0.9", "expected shares > 0 of 1 in all, got 0.9 and 0.15"),
        (
            "model.pair_weights=free",
            "pair_weights: expected one of learned, fixed",
        ),
        ("loss.noise=white", "loss.noise: expected one of context, independent"),
        (
            "eval.split=train",
            "eval.split: expected one of test, validation",
        ),
        ("loss.num_negatives=0", "loss.num_negatives: expected a number > 0, got 0"),
        ("data.batch_size=4000", "batch_size: expected 1 to 2250"),
    ],
)
def test_wrong_input_is_one_line(change, message, tmp_path, capsys):
    argv = ["ape:smoke", "--workdir", str(tmp_path / "w"), "--set", change]
    assert run.main(argv) == run.WRONG_INPUT
    assert message in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


def test_users_events_of_two_types(tmp_path):
    """Only so many entities change as there are types; nothing known is an error."""
    rows = [f"2020-01-{d:02},{d % 3},{d % 2}" for d in range(1, 29)]
    (tmp_path / "mine.csv").write_text("day,a,b\n" + "\n".join(rows))
    config = configs.get_config("smoke")
    config.data.update(sets=("mine",), data_dir=str(tmp_path))
    twins = data.usual_and_anomalous(config)
    assert {c: len(x) for c, x in twins.items()} == {0: 4, 1: 4, 2: 4}
    assert (twins[2] != twins[0]).all()
    (tmp_path / "new.csv").write_text(
        "day,a,b\n" + "\n".join(f"{d:02},{d},x" for d in range(20))
    )
    config.data.sets = ("new",)
    with pytest.raises(packaged.DataMissing, match="every event of its test part has"):
        data.usual_and_anomalous(config)

"""launch/device_check: its rows and its table, on a CPU."""

from launch import device_check


def test_rates_shares_and_table():
    rows = []
    for row in device_check.products(width=16, side=32):
        rows.append(device_check.with_share(row, rows))
    assert [r["type"] for r in rows] == ["bfloat16"] * 2 + ["float32"] * 2
    assert "share" in rows[1]
    assert rows[1]["share"] == rows[1]["rate"] / rows[0]["rate"]
    text = device_check.markdown(rows)
    assert "### product" in text
    assert len(text.splitlines()) == 9


def test_tiled_losses_agree_and_a_wrong_one_does_not(monkeypatch):
    right = device_check.LOSSES["clip"]
    wrong = {"clip": right, "info_nce": right}
    monkeypatch.setattr(device_check, "LOSSES", wrong)
    found = list(device_check.agreement(64, 8))
    assert [r["agrees"] for r in found] == [True, False] * 2

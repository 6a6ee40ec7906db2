r"""The formulas of docs/formulas.toml as MathML.

An entry is a loss's name under the package that exports it:

    [losses.info_nce]
    lines = ['\mathcal{L}_i = ...', ...]
    symbols = {'\epsilon' = "label_smoothing"}

`lines` are LaTeX, one displayed formula each. `symbols` says which argument or what
else a symbol stands for, besides those that all share: the table `[notation]`.
"""

import html
import pathlib
import re
import tomllib

FILE = pathlib.Path(__file__).resolve().parent.parent / "formulas.toml"


def read(file: pathlib.Path = FILE) -> dict[str, dict]:
    """The file as it is."""
    return tomllib.loads(file.read_text(encoding="utf-8"))


def load(file: pathlib.Path = FILE) -> dict[str, dict]:
    """Entries by public path, such as "contrastive_jax.losses.info_nce"."""
    packages = read(file)
    del packages["notation"]
    return {
        f"contrastive_jax.{package}.{name}": entry
        for package, entries in packages.items()
        for name, entry in entries.items()
    }


def to_mathml(latex: str, display: str = "inline") -> str:
    """One formula; raises where a part of it is not understood."""
    from latex2mathml import converter

    out = converter.convert(latex, display=display)
    # The converter passes commands it does not know through as text.
    if "\\" in html.unescape(out):
        raise ValueError(f"not understood in full: {latex}")
    return out


def render(entry: dict) -> str:
    """An entry as HTML."""
    out = [to_mathml(line, "block") for line in entry["lines"]]
    symbols = entry.get("symbols", {}).items()
    if symbols:
        listed = (
            f"{to_mathml(symbol)}: {text(meaning)}" for symbol, meaning in symbols
        )
        out.append(f"<p>{'; '.join(listed)}</p>")
    if "note" in entry:
        out.append(f"<p>{text(entry['note'])}</p>")
    return "\n".join(['<div class="formula">', *out, "</div>"])


def notation() -> str:
    """The letters that all formulas share, as a table."""
    rows = [
        f"<tr><td>{to_mathml(symbol)}</td><td>{text(meaning)}</td></tr>"
        for symbol, meaning in read()["notation"].items()
    ]
    return "\n".join(["<table>", *rows, "</table>"])


def text(words: str) -> str:
    """Words as HTML: what stands between backticks as code, between $ as a formula."""
    parts = re.split(r"(`[^`]*`|\$[^$]*\$)", words)
    return "".join(
        f"<code>{html.escape(part[1:-1])}</code>"
        if part.startswith("`")
        else to_mathml(part[1:-1])
        if part.startswith("$")
        else html.escape(part)
        for part in parts
    )

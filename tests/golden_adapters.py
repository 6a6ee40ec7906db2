"""Reference values by name, in terms of the library.

`ADAPTERS[slug][function]` takes (inputs, args) and returns outputs by name; each
`adapters/<slug>.py` defines the functions of one collection of reference values.
"""

import importlib
import pathlib

SLUGS = sorted(
    path.stem
    for path in pathlib.Path(__file__).parent.glob("adapters/*.py")
    if path.stem != "__init__"
)
ADAPTERS = {
    slug: importlib.import_module(f"adapters.{slug}").ADAPTERS for slug in SLUGS
}

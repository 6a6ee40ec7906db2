"""Reference values by name, in terms of the library.

`ADAPTERS[slug][function]` takes (inputs, args) and returns outputs by name; each
`golden/<slug>.py` defines the functions of one collection of reference values.
"""

import importlib
import pathlib

SLUGS = sorted(
    path.stem
    for path in pathlib.Path(__file__).parent.glob("golden/*.py")
    if path.stem != "__init__"
)
# Imported as a part of the tests, or alone with this folder on the path.
FOLDER = f"{__package__}.golden" if __package__ else "golden"
ADAPTERS = {
    slug: importlib.import_module(f"{FOLDER}.{slug}").ADAPTERS for slug in SLUGS
}

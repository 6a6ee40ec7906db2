"""Reference values by name, in terms of the library.

`ADAPTERS[slug][function]` takes (inputs, args) and returns outputs by name; each
`golden/<slug>.py` defines the functions of one collection of reference values.
"""

import importlib
import pathlib
import sys

SLUGS = sorted(
    path.stem
    for path in pathlib.Path(__file__).parent.glob("golden/*.py")
    if path.stem != "__init__"
)
# Imported as a part of the tests, or alone with this folder on the path; then the
# experiments are those of the repository, not the tests of them beside this file.
FOLDER = f"{__package__}.golden" if __package__ else "golden"
if not __package__:
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
ADAPTERS = {
    slug: importlib.import_module(f"{FOLDER}.{slug}").ADAPTERS for slug in SLUGS
}

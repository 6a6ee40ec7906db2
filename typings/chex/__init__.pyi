"""What the package uses of chex, said so that the type checker understands it.

chex declares no types for its dataclasses; without this, every constructor call of a
state would be reported.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")
ArrayTree = Any

@dataclass_transform(kw_only_default=True, field_specifiers=(dataclasses.field,))
def dataclass(*, frozen: bool = False) -> Callable[[type[T]], type[T]]: ...

"""Types of values that are None by default, for the type checker."""

from typing import Any

def placeholder(field_type: type, required: bool = False) -> Any: ...

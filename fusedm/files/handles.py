"""What an open file is, to whoever answers its requests."""

from dataclasses import dataclass, field
from typing import Any

from fusedm.system import View


@dataclass(slots=True)
class OpenDevice:
    """An open device file. stretches is what has been found out about it (routes.py)."""

    view: View
    durable_writes: bool
    stretches: list[Any] = field(default_factory=list)


#: By the number the kernel knows it by; the bytes of a text file are made when it is opened.
Handles = dict[int, OpenDevice | memoryview]

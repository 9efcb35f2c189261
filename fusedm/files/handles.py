"""What an open file is, to whoever answers its requests."""

from dataclasses import dataclass, field
from typing import Any

from fusedm.system import View


@dataclass(slots=True)
class OpenDevice:
    """An open device file. What follows durable_writes has been found out about it (paths.py)."""

    view: View
    durable_writes: bool
    spans: list[Any] = field(default_factory=list)
    flush_span: Any = None


#: By the number the kernel knows it by; the bytes of a text file are made when it is opened.
Handles = dict[int, OpenDevice | memoryview]

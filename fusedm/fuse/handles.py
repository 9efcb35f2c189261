"""What an open file is, to whoever answers its requests."""

from dataclasses import dataclass

from fusedm.system import View


@dataclass(slots=True)
class OpenDevice:
    """An open device file."""

    view: View
    durable_writes: bool


#: By the number the kernel knows it by; the bytes of a text file are made when it is opened.
Handles = dict[int, OpenDevice | memoryview]

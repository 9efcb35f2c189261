"""The NBD protocol: what goes over a connection, without a connection. All of it is pure."""

from typing import TYPE_CHECKING

from fusedm import door

if TYPE_CHECKING:
    from fusedm.nbd.words import errno_of_wire, wire_of_errno

__all__ = ["errno_of_wire", "wire_of_errno", "words"]

__getattr__ = door(__name__, {"words": "errno_of_wire wire_of_errno"})

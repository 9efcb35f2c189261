"""The NBD front: disks, mapped devices and views as exports, with a mount beside them or not."""

from typing import TYPE_CHECKING

from fusedm import door

if TYPE_CHECKING:
    from fusedm.export.listening import Address, TlsFiles, parse_address
    from fusedm.export.servers import Servers, ServerSpec

__all__ = ["Address", "ServerSpec", "Servers", "TlsFiles", "parse_address"]

__getattr__ = door(
    __name__,
    {"listening": "Address TlsFiles parse_address", "servers": "ServerSpec Servers"},
)

"""Verbs on the NBD servers of a running stack."""

from pathlib import PurePath
from typing import Any

from fusedm.block.errors import ControlError
from fusedm.export import Address, Servers, ServerSpec, TlsFiles, parse_address

Json = dict[str, Any]


class NbdVerbs:
    """The verbs nbd.*; each public method is one. An address is a path, or HOST:PORT."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers

    async def serve(
        self,
        names: list[str],
        socket: str = "",
        tcp: str = "",
        tls_cert: str = "",
        tls_key: str = "",
        tls_ca: str = "",
        read_only: bool = False,
    ) -> Json:
        """Serve names, or all if there are none, at a socket or by TCP; where, and a warning."""
        if bool(socket) == bool(tcp):
            raise ControlError("nbd.serve: give either socket or tcp")
        files = {"socket": socket, "tls_cert": tls_cert, "tls_key": tls_key, "tls_ca": tls_ca}
        for argument, path in files.items():
            if path and not PurePath(path).is_absolute():
                # The folder that is meant is the client's.
                raise ControlError(f"nbd.serve: {argument} {path!r} is not an absolute path")
        if bool(tls_cert) != bool(tls_key) or (tls_ca and not tls_cert):
            raise ControlError("nbd.serve: tls_cert and tls_key go together, and tls_ca with them")
        tls = TlsFiles(tls_cert, tls_key, tls_ca) if tls_cert else None
        address = Address(path=socket) if socket else parse_address(tcp)
        where = await self._servers.start(ServerSpec(address, tuple(names), read_only, tls))
        return {"address": where, "warning": self._servers.warning(where)}

    async def stop(self, address: str, force: bool = False) -> None:
        """End a server; clients that are connected refuse it, unless forced."""
        await self._servers.stop(address, force)

    def list(self) -> list[Json]:
        """Every server: its address, what it exports (none: all), and to how many."""
        return self._servers.list()

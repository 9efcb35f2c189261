"""NBD URIs: which server, which export, and how."""

from dataclasses import dataclass
from math import isfinite
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from fusedm.nbd.words import DEFAULT_PORT, MAX_STRING_BYTES

#: The words before the colon.
SCHEMES = ("nbd", "nbds", "nbd+unix", "nbds+unix")

#: Longer than servers take for a request, shorter than people wait: a kernel's disk has 30 as well.
DEFAULT_TIMEOUT_SECONDS = 30.0

#: Parameters that are paths.
_PATHS = ("socket", "tls-certificates")

_PARAMETERS = ("socket", "timeout", "tls-certificates", "tls-hostname")


@dataclass(frozen=True, slots=True)
class Address:
    """Where an export is.

    socket: of a unix socket, absolute; else None, and host and port say where.
    certificates: the folder of ca-cert.pem and perhaps client-cert.pem and client-key.pem; None
    trusts those whom the system trusts. hostname: what the server's certificate must be for.
    """

    export: str
    host: str = ""
    port: int = DEFAULT_PORT
    socket: str | None = None
    is_tls: bool = False
    certificates: str | None = None
    hostname: str | None = None
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS

    def __str__(self) -> str:
        place = f"{self.host}:{self.port}" if self.socket is None else self.socket
        return f"NBD export {self.export!r} at {place}"


def parse_uri(text: str) -> Address:
    """The address that a URI names.

    Raises: ValueError with one line that says what of it cannot be.
    """
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{text}: {error}") from None
    if parts.scheme not in SCHEMES:
        raise ValueError(f"{text}: {parts.scheme!r} is not one of {', '.join(SCHEMES)}")
    if parts.fragment or parts.username is not None:
        raise ValueError(f"{text}: a fragment (#) or a user (@) means nothing here")
    given = _parameters(text, parts.query)
    is_tls = parts.scheme.startswith("nbds")
    if not is_tls and (tls := [name for name in given if name.startswith("tls-")]):
        raise ValueError(f"{text}: {tls[0]} needs {parts.scheme.replace('nbd', 'nbds')}")
    export = unquote(parts.path.removeprefix("/"))
    if len(export.encode()) > MAX_STRING_BYTES or "\0" in export:
        raise ValueError(f"{text}: an export's name has at most {MAX_STRING_BYTES} bytes, no zeros")
    certificates = given.get("tls-certificates")
    if certificates is not None and not certificates.startswith("/"):
        raise ValueError(f"{text}: tls-certificates {certificates!r} is not an absolute path")
    timeout = _seconds(text, given.get("timeout"))
    if parts.scheme.endswith("+unix"):
        socket = given.get("socket", "")
        if not socket.startswith("/"):
            raise ValueError(f"{text}: socket {socket!r} is not an absolute path")
        if parts.netloc:
            raise ValueError(f"{text}: {parts.netloc!r} is a host, and a unix socket has none")
        name = given.get("tls-hostname")
        return Address(export, "", 0, socket, is_tls, certificates, name, timeout)
    if "socket" in given:
        raise ValueError(f"{text}: a socket needs {parts.scheme}+unix")
    host = host or "localhost"
    name = given.get("tls-hostname", host) if is_tls else None
    return Address(export, host, port or DEFAULT_PORT, None, is_tls, certificates, name, timeout)


def with_folder(text: str, folder: str) -> str:
    """The same URI, with the folder in front of the paths in it that are relative."""
    base, _, query = text.partition("?")
    given = parse_qsl(query, keep_blank_values=True)
    paths = {name for name, value in given if name in _PATHS and not value.startswith("/")}
    if not paths:
        return text
    longer = [(name, f"{folder}/{value}" if name in paths else value) for name, value in given]
    return f"{base}?{urlencode(longer, safe='/', quote_via=quote)}"


def _parameters(text: str, query: str) -> dict[str, str]:
    given: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _PARAMETERS:
            raise ValueError(f"{text}: {name!r} is not one of {', '.join(_PARAMETERS)}")
        if name in given:
            raise ValueError(f"{text}: {name} is given twice")
        given[name] = value
    return given


def _seconds(text: str, value: str | None) -> float:
    if value is None:
        return DEFAULT_TIMEOUT_SECONDS
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not (isfinite(seconds) and seconds > 0):
        raise ValueError(f"{text}: timeout {value!r} is not a number of seconds above 0")
    return seconds

"""What a store's text says of an RBD image: rbd:POOL[/NAMESPACE]/IMAGE[@SNAPSHOT][?OPTIONS]."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from fusedm.block.errors import StoreError

WORD = "rbd:"
_DEFAULT_TIMEOUT = 30
#: A day: longer ones are mistakes, and librados counts in floating point.
_MAX_TIMEOUT = 86400
_OPTIONS = ("conf", "id", "timeout")
_PLACE = re.compile(
    r"(?P<pool>[^/@]+)/(?:(?P<namespace>[^/@]+)/)?(?P<image>[^/@]+)(?:@(?P<snapshot>[^/@]+))?"
)


@dataclass(frozen=True, slots=True)
class Address:
    """An image, or a snapshot of one, and who reaches it how.

    Units: timeout in seconds. Without a conf the client's own rules find one. Keys are in the conf
    or the keyring it names, and never here.
    """

    pool: str
    namespace: str
    image: str
    snapshot: str
    conf: Path | None = None
    user: str = "admin"
    timeout: int = _DEFAULT_TIMEOUT

    def __str__(self) -> str:
        """Without the options, for errors."""
        place = "/".join(filter(None, (self.pool, self.namespace, self.image)))
        return WORD + place + (f"@{self.snapshot}" if self.snapshot else "")


def parse_address(text: str) -> Address:
    """The address in a store's text.

    Raises: StoreError.
    """
    place, _, query = text.removeprefix(WORD).partition("?")
    found = _PLACE.fullmatch(unquote(place))
    if found is None:
        raise StoreError(
            f"{text!r}: is not {WORD}POOL/IMAGE or {WORD}POOL/NAMESPACE/IMAGE@SNAPSHOT"
        )
    options = _options(text, query)
    timeout = options.get("timeout", str(_DEFAULT_TIMEOUT))
    if not timeout.isascii() or not timeout.isdigit() or not 1 <= int(timeout) <= _MAX_TIMEOUT:
        raise StoreError(f"{text!r}: timeout {timeout} is not in 1..{_MAX_TIMEOUT} seconds")
    conf = options.get("conf")
    return Address(
        pool=found["pool"],
        namespace=found["namespace"] or "",
        image=found["image"],
        snapshot=found["snapshot"] or "",
        conf=None if conf is None else Path(conf),
        user=options.get("id", "admin").removeprefix("client."),
        timeout=int(timeout),
    )


def prefixed_address(text: str, folder: Path) -> str:
    """The same text, with the folder in front of the path of a conf that is relative.

    Raises: StoreError.
    """
    conf = parse_address(text).conf
    if conf is None or conf.is_absolute():
        return text
    place, _, query = text.partition("?")
    words = [f"conf={quote(str(folder / conf))}" if _is_conf(w) else w for w in query.split("&")]
    return f"{place}?{'&'.join(words)}"


def _is_conf(word: str) -> bool:
    return word.partition("=")[0] == "conf"


def _options(text: str, query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for word in filter(None, query.split("&")):
        name, _, value = word.partition("=")
        if name not in _OPTIONS:
            # Not the text: somebody may have written a key into it.
            place = text.partition("?")[0]
            raise StoreError(f"{place}: option {name} is not one of {', '.join(_OPTIONS)}")
        if name in options or not value:
            raise StoreError(f"{text!r}: give {name} once, with a value")
        options[name] = unquote(value)
    return options

"""Control messages: one JSON object a line, both ways. Pure: bytes in, values out, no sockets.

request   {"fusedm": 1, "id": 7, "verb": "disk.add", "args": {"name": "d0", ...}}
reply     {"fusedm": 1, "id": 7, "result": ...}
      or  {"fusedm": 1, "id": 7, "error": {"errno": 16, "text": "...", "usage": false}}
"""

import json
from dataclasses import dataclass
from typing import Any

from fusedm.block.errors import ControlError, FusedmError, UsageError
from fusedm.control.wire import encode

#: The version of the messages; another one is refused.
VERSION = 1

#: A line of a request. Room for a table of some ten thousand targets, and little enough to hold.
MAX_LINE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Request:
    """A verb and its arguments; id is whatever the client wants to see in the reply."""

    verb: str
    args: dict[str, Any]
    id: int = 0


class LineReader:
    """Lines from bytes that come in pieces."""

    def __init__(self, limit: int | None = MAX_LINE_BYTES) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes | bytearray) -> list[bytes]:
        """The lines that are complete now.

        Raises: ControlError for a line longer than the limit; the reader is of no use then.
        """
        self._buffer += data
        *lines, rest = bytes(self._buffer).split(b"\n")
        longest = max(len(line) for line in (*lines, rest))
        if self._limit is not None and longest > self._limit:
            raise ControlError(
                f"control message of {longest} bytes or more, the limit is {self._limit}"
            )
        self._buffer = bytearray(rest)
        return lines


def encode_request(request: Request) -> bytes:
    """The line of a request."""
    return _encode({"id": request.id, "verb": request.verb, "args": request.args})


def decode_request(line: bytes) -> Request:
    """The request in a line.

    Raises: ControlError.
    """
    message = _decode(line)
    verb, args, number = message.get("verb"), message.get("args", {}), message.get("id", 0)
    if not isinstance(verb, str):
        raise ControlError(f"control message: verb {verb!r} is not a string")
    if not isinstance(args, dict):
        raise ControlError(f"control message: args of {verb} is not an object")
    if not isinstance(number, int):
        raise ControlError(f"control message: id {number!r} is not a whole number")
    return Request(verb, args, number)


def encode_result(number: int, result: object) -> bytes:
    """The line of a reply that went well."""
    return _encode({"id": number, "result": result})


def encode_error(number: int, error: FusedmError) -> bytes:
    """The line of a refusal."""
    told = {"errno": error.errno, "text": str(error), "usage": isinstance(error, UsageError)}
    return _encode({"id": number, "error": told})


def decode_reply(line: bytes) -> object:
    """The result in a reply.

    Raises: FusedmError as it was refused; ControlError for what is no reply.
    """
    message = _decode(line)
    error = message.get("error")
    if isinstance(error, dict):
        kind = UsageError if error.get("usage") is True else FusedmError
        raise kind(str(error.get("text")), int(error.get("errno", 0)))
    if "result" not in message:
        raise ControlError("control message: neither result nor error")
    return message["result"]


def _encode(message: dict[str, object]) -> bytes:
    return json.dumps({"fusedm": VERSION, **message}, default=encode).encode() + b"\n"


def _decode(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        raise ControlError("control message: not JSON") from None
    if not isinstance(message, dict):
        raise ControlError("control message: not a JSON object")
    if message.get("fusedm") != VERSION:
        raise ControlError(
            f"control message: version {message.get('fusedm')!r}, this daemon speaks {VERSION}"
        )
    return message

"""The handshake of a server, as a generator that says what it needs and is given it. Pure.

It yields a number of bytes that it has to read, bytes that are to be sent, or START_TLS, and is
sent what was read. Nothing but what it asks for may be read, so nothing that came before TLS is
taken for what came within. It returns what was agreed on, or None if there is nothing to serve.
"""

import struct
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from fusedm.nbd import words
from fusedm.nbd.handshake import broken
from fusedm.nbd.replies import CONTEXT_ID
from fusedm.nbd.requests import MAX_DATA_BYTES, Agreed, Exported
from fusedm.nbd.words import ExportFlag, HandshakeFlag, Info, Option, OptionReply

#: Bytes of an option: an export's name, and names of contexts a client may ask for.
MAX_OPTION_BYTES = 64 << 10
#: Options of one client: a program that has so many does not mean to come to an end.
MAX_OPTIONS = 256
#: What is read and written best where blocks are smaller: a page.
PREFERRED_BYTES = 4096

START_TLS: Final = "start TLS"
#: How many bytes are to be read, what is to be sent, or START_TLS.
Step = int | bytes | str
Talk = Generator[Step, bytes, Agreed | None]

_NEEDS_CHUNKS = ExportFlag.SEND_DF
_FLAGS = HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES


class Offer(Protocol):
    """What a server has for one client."""

    def names(self) -> Sequence[str]:
        """Of every export."""

    def look_up(self, name: str) -> Exported | None:
        """What is told of an export; None if there is none of that name."""

    def open(self, name: str) -> Exported | None:
        """The same, and it stays until the client has gone."""


@dataclass(slots=True)
class _Client:
    """What is known of a client so far."""

    offer: Offer
    no_zeroes: bool = False
    is_secret: bool = False
    structured: bool = False
    #: Of which export base:allocation has been chosen.
    context_of: str | None = None
    agreed: Agreed | None = None
    is_over: bool = False
    replies: list[bytes] = field(default_factory=list)

    def reply(self, option: int, kind: OptionReply, data: bytes = b"") -> None:
        """Answer an option."""
        head = words.OPTION_REPLY.pack(words.OPTION_REPLY_MAGIC, option, kind, len(data))
        self.replies.append(head + data)

    def agree(self, name: str, export: Exported) -> None:
        """Go on to requests."""
        holes = self.structured and self.context_of == name
        self.agreed = Agreed(self.told(export), self.structured, holes)

    def told(self, export: Exported) -> Exported:
        """An export as this client is told of it: no chunks without structured replies."""
        return export if self.structured else replace(export, flags=export.flags & ~_NEEDS_CHUNKS)


def welcome(offer: Offer, needs_tls: bool) -> Talk:
    """Talk with a client until it has chosen an export, or has gone.

    needs_tls has it begin TLS before it learns anything; otherwise there is none.
    Raises: OSError(EPROTO) for what is no message of the protocol.
    """
    yield words.GREETING.pack(words.GREETING_MAGIC, words.OPTION_MAGIC, _FLAGS)
    (said,) = words.CLIENT_FLAGS.unpack((yield words.CLIENT_FLAGS.size))
    if said & ~int(_FLAGS):
        raise broken(f"handshake flags {said:#x}")
    client = _Client(offer, no_zeroes=bool(said & HandshakeFlag.NO_ZEROES))
    for _ in range(MAX_OPTIONS):
        magic, option, size = words.OPTION.unpack((yield words.OPTION.size))
        if magic != words.OPTION_MAGIC or size > MAX_OPTION_BYTES:
            raise broken(f"an option of {size} bytes that begins with {magic:#x}")
        data = (yield size) if size else b""
        if option == Option.STARTTLS and needs_tls and not client.is_secret and not data:
            client.reply(option, OptionReply.ACK)
            yield client.replies.pop()
            yield START_TLS
            # What was agreed on before does not count: somebody else may have said it.
            client = _Client(offer, client.no_zeroes, is_secret=True)
            continue
        _answer(client, option, data, is_open=client.is_secret or not needs_tls)
        if client.replies:
            yield b"".join(client.replies)
            client.replies.clear()
        if client.agreed is not None or client.is_over:
            return client.agreed
    raise broken(f"more than {MAX_OPTIONS} options")


def _answer(client: _Client, option: int, data: bytes, is_open: bool) -> None:
    """Answer an option; is_open unless TLS has to come first."""
    if option == Option.ABORT:
        client.is_over = True
        client.reply(option, OptionReply.ACK)
        return
    if not is_open:
        # Who chooses an export by its name alone cannot be told why not.
        client.is_over = option == Option.EXPORT_NAME
        if not client.is_over:
            client.reply(option, OptionReply.ERR_TLS_REQD)
        return
    answer = _ANSWERS.get(option)
    if answer is None:
        client.reply(option, OptionReply.ERR_UNSUP)
        return
    try:
        answer(client, option, data)
    except (ValueError, struct.error) as error:
        if option == Option.EXPORT_NAME:
            raise broken(f"the name of an export: {error}") from None
        client.reply(option, OptionReply.ERR_INVALID, str(error).encode())


def _export_name(client: _Client, _: int, data: bytes) -> None:
    export = client.offer.open(_text(data))
    if export is None:
        client.is_over = True
        return
    client.agree(data.decode(), export)
    padding = b"" if client.no_zeroes else bytes(words.EXPORT_PADDING_BYTES)
    client.replies.append(words.EXPORT.pack(export.size, client.told(export).flags) + padding)


def _list(client: _Client, option: int, data: bytes) -> None:
    _expect_nothing(data)
    for name in client.offer.names():
        client.reply(option, OptionReply.SERVER, _string(name))
    client.reply(option, OptionReply.ACK)


def _start_tls(client: _Client, option: int, data: bytes) -> None:
    _expect_nothing(data)
    if client.is_secret:
        raise ValueError("TLS has begun already")
    client.reply(option, OptionReply.ERR_POLICY)


def _info_or_go(client: _Client, option: int, data: bytes) -> None:
    name, at = _read_string(data, 0)
    (count,) = struct.unpack_from(">H", data, at)
    wanted = struct.unpack_from(f">{count}H", data, at + 2)
    if len(data) != at + 2 + 2 * count:
        raise ValueError("bytes follow what was asked for")
    find = client.offer.open if option == Option.GO else client.offer.look_up
    export = find(name)
    if export is None:
        client.reply(option, OptionReply.ERR_UNKNOWN, f"there is no export {name!r}".encode())
        return
    told = [words.INFO_EXPORT.pack(Info.EXPORT, export.size, client.told(export).flags)]
    preferred = max(export.block_size, PREFERRED_BYTES)
    told.append(
        words.INFO_BLOCK_SIZE.pack(Info.BLOCK_SIZE, export.block_size, preferred, MAX_DATA_BYTES)
    )
    if Info.NAME in wanted:
        told.append(words.INFO_TYPE.pack(Info.NAME) + name.encode())
    for each in told:
        client.reply(option, OptionReply.INFO, each)
    client.reply(option, OptionReply.ACK)
    if option == Option.GO:
        client.agree(name, export)


def _structured_reply(client: _Client, option: int, data: bytes) -> None:
    _expect_nothing(data)
    client.structured = True
    client.reply(option, OptionReply.ACK)


def _meta_context(client: _Client, option: int, data: bytes) -> None:
    """Tell which contexts of those asked for there are, and choose them or only list them."""
    name, at = _read_string(data, 0)
    (count,) = words.COUNT.unpack_from(data, at)
    at += words.COUNT.size
    queries = []
    for _ in range(count):
        query, at = _read_string(data, at)
        queries.append(query)
    if at != len(data):
        raise ValueError("bytes follow the queries")
    lists = option == Option.LIST_META_CONTEXT
    if not client.structured:
        raise ValueError("structured replies have not been agreed on")
    if not lists:
        client.context_of = None
    if client.offer.look_up(name) is None:
        client.reply(option, OptionReply.ERR_UNKNOWN, f"there is no export {name!r}".encode())
        return
    meant = {words.BASE_ALLOCATION, "base:"} if lists else {words.BASE_ALLOCATION}
    if meant.intersection(queries) or (lists and not queries):
        told = words.COUNT.pack(CONTEXT_ID) + words.BASE_ALLOCATION.encode()
        client.reply(option, OptionReply.META_CONTEXT, told)
        if not lists:
            client.context_of = name
    client.reply(option, OptionReply.ACK)


_ANSWERS: dict[int, Callable[[_Client, int, bytes], None]] = {
    Option.EXPORT_NAME: _export_name,
    Option.LIST: _list,
    Option.STARTTLS: _start_tls,
    Option.INFO: _info_or_go,
    Option.GO: _info_or_go,
    Option.STRUCTURED_REPLY: _structured_reply,
    Option.LIST_META_CONTEXT: _meta_context,
    Option.SET_META_CONTEXT: _meta_context,
}


def _expect_nothing(data: bytes) -> None:
    if data:
        raise ValueError(f"{len(data)} bytes where none are expected")


def _string(text: str) -> bytes:
    data = text.encode()
    return words.COUNT.pack(len(data)) + data


def _read_string(data: bytes, at: int) -> tuple[str, int]:
    """A string and where it ends."""
    (size,) = words.COUNT.unpack_from(data, at)
    begin = at + words.COUNT.size
    if begin + size > len(data):
        raise ValueError(f"a string of {size} bytes in {len(data) - begin}")
    return _text(data[begin : begin + size]), begin + size


def _text(data: bytes) -> str:
    if len(data) > words.MAX_STRING_BYTES:
        raise ValueError(f"a string of {len(data)} bytes, more than {words.MAX_STRING_BYTES}")
    return data.decode()

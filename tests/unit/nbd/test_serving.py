"""The server's handshake: each option, its refusals, and what counts no more within TLS."""

import struct
from collections.abc import Sequence

import pytest

from fusedm.nbd.requests import MAX_DATA_BYTES, Agreed, Exported
from fusedm.nbd.serving import MAX_OPTION_BYTES, MAX_OPTIONS, START_TLS, welcome
from fusedm.nbd.words import (
    BASE_ALLOCATION,
    CLIENT_FLAGS,
    EXPORT,
    EXPORT_PADDING_BYTES,
    GREETING,
    GREETING_MAGIC,
    OPTION,
    OPTION_MAGIC,
    OPTION_REPLY,
    OPTION_REPLY_MAGIC,
    ExportFlag,
    HandshakeFlag,
    Info,
    Option,
    OptionReply,
)

FLAGS = ExportFlag.HAS_FLAGS | ExportFlag.SEND_FLUSH | ExportFlag.SEND_DF
WITHOUT_DF = FLAGS & ~ExportFlag.SEND_DF
DISK = Exported(1 << 20, FLAGS, 512)
BIG = Exported(1 << 30, FLAGS, 8192)
ALL_FLAGS = int(HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES)
UNKNOWN = 12345


class Shop:
    """Two exports; opened says which have been."""

    def __init__(self) -> None:
        self.opened: list[str] = []

    def names(self) -> Sequence[str]:
        return ["disk", "big"]

    def look_up(self, name: str) -> Exported | None:
        return {"disk": DISK, "big": BIG}.get(name)

    def open(self, name: str) -> Exported | None:
        self.opened.append(name)
        return self.look_up(name)


class Client:
    """Speaks with a server's handshake, a byte string at a time."""

    def __init__(self, tls: bool = False, flags: int = ALL_FLAGS) -> None:
        self.shop = Shop()
        self.talk = welcome(self.shop, tls)
        self.agreed: Agreed | None = None
        self.is_over = False
        self.began_tls = False
        self.said = b""
        self._step: object = next(self.talk)
        self._go(b"")
        assert GREETING.unpack(self.take()) == (GREETING_MAGIC, OPTION_MAGIC, 3)
        self.send(CLIENT_FLAGS.pack(flags))

    def take(self) -> bytes:
        said, self.said = self.said, b""
        return said

    def send(self, data: bytes) -> None:
        """Give it bytes; it asks for all of them, and for none beyond."""
        while data and not self.is_over:
            assert isinstance(self._step, int)
            part, data = data[: self._step], data[self._step :]
            self._go(part)

    def _go(self, answer: bytes) -> None:
        while not self.is_over:
            if isinstance(self._step, int) and not answer:
                return
            if isinstance(self._step, bytes):
                self.said += self._step
            elif self._step == START_TLS:
                self.began_tls = True
            try:
                self._step = self.talk.send(answer if isinstance(self._step, int) else b"")
            except StopIteration as end:
                self.agreed, self.is_over = end.value, True
            answer = b""

    def ask(self, option: int, data: bytes = b"") -> list[tuple[int, bytes]]:
        """Ask for an option; what is answered."""
        self.send(OPTION.pack(OPTION_MAGIC, option, len(data)) + data)
        return self.replies(option)

    def replies(self, option: int) -> list[tuple[int, bytes]]:
        said, found = self.take(), []
        while said:
            magic, of, kind, size = OPTION_REPLY.unpack_from(said)
            assert (magic, of) == (OPTION_REPLY_MAGIC, option)
            found.append((kind, said[OPTION_REPLY.size : OPTION_REPLY.size + size]))
            said = said[OPTION_REPLY.size + size :]
        return found


def string(text: str) -> bytes:
    return struct.pack(">I", len(text)) + text.encode()


def about(name: str, *infos: int) -> bytes:
    return string(name) + struct.pack(f">H{len(infos)}H", len(infos), *infos)


def contexts(name: str, *queries: str) -> bytes:
    return string(name) + struct.pack(">I", len(queries)) + b"".join(map(string, queries))


DONE = [(OptionReply.ACK, b"")]


def kinds(replies: list[tuple[int, bytes]]) -> list[int]:
    return [kind for kind, _ in replies]


def test_a_list_names_every_export():
    told = Client().ask(Option.LIST)
    assert told == [
        (OptionReply.SERVER, string("disk")),
        (OptionReply.SERVER, string("big")),
        *DONE,
    ]


def test_info_tells_size_flags_and_block_sizes_and_opens_nothing():
    client = Client()
    told = client.ask(Option.INFO, about("disk"))
    export = struct.pack(">HQH", Info.EXPORT, DISK.size, WITHOUT_DF)
    blocks = struct.pack(">HIII", Info.BLOCK_SIZE, 512, 4096, MAX_DATA_BYTES)
    assert told == [(OptionReply.INFO, export), (OptionReply.INFO, blocks), *DONE]
    assert not client.shop.opened
    assert not client.is_over


def test_a_block_that_is_larger_is_preferred():
    told = Client().ask(Option.INFO, about("big", Info.BLOCK_SIZE))
    assert told[1][1] == struct.pack(">HIII", Info.BLOCK_SIZE, 8192, 8192, MAX_DATA_BYTES)


def test_the_name_is_told_where_it_is_asked_for():
    told = Client().ask(Option.INFO, about("disk", Info.NAME, Info.DESCRIPTION))
    assert told[2] == (OptionReply.INFO, struct.pack(">H", Info.NAME) + b"disk")


def test_go_opens_the_export_and_ends_the_handshake():
    client = Client()
    assert kinds(client.ask(Option.GO, about("disk"))) == [OptionReply.INFO] * 2 + [OptionReply.ACK]
    assert client.shop.opened == ["disk"]
    assert client.agreed == Agreed(Exported(DISK.size, WITHOUT_DF, 512))


@pytest.mark.parametrize("option", [Option.INFO, Option.GO])
def test_an_export_that_is_not_there_is_unknown(option: Option):
    client = Client()
    assert kinds(client.ask(option, about("nobody"))) == [OptionReply.ERR_UNKNOWN]
    assert not client.is_over


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0",
        string("disk"),
        string("disk") + b"\0",
        string("disk") + b"\0\2\0\0",
        about("disk") + b"\0",
        struct.pack(">I", 9) + b"disk\0\0",
        struct.pack(">I", 1) + b"\xff\0\0",
        string("x" * 4097) + b"\0\0",
    ],
)
@pytest.mark.parametrize("option", [Option.INFO, Option.GO])
def test_what_asks_for_an_export_in_no_sense_is_invalid(option: Option, data: bytes):
    client = Client()
    assert kinds(client.ask(option, data)) == [OptionReply.ERR_INVALID]
    assert not client.is_over


@pytest.mark.parametrize(("flags", "padding"), [(ALL_FLAGS, 0), (1, EXPORT_PADDING_BYTES)])
def test_an_export_is_chosen_by_its_name_alone(flags: int, padding: int):
    client = Client(flags=flags)
    client.send(OPTION.pack(OPTION_MAGIC, Option.EXPORT_NAME, 4) + b"disk")
    assert client.take() == EXPORT.pack(DISK.size, WITHOUT_DF) + bytes(padding)
    assert client.agreed is not None
    assert not client.agreed.structured


def test_a_wrong_name_alone_has_the_server_hang_up():
    client = Client()
    client.send(OPTION.pack(OPTION_MAGIC, Option.EXPORT_NAME, 4) + b"none")
    assert (client.take(), client.is_over, client.agreed) == (b"", True, None)


@pytest.mark.parametrize("name", [b"\xff", b"x" * 4097])
def test_a_name_that_cannot_be_is_no_message_of_the_protocol(name: bytes):
    with pytest.raises(OSError, match="name"):
        Client().send(OPTION.pack(OPTION_MAGIC, Option.EXPORT_NAME, len(name)) + name)


def test_who_has_agreed_on_structured_replies_is_told_of_df():
    client = Client()
    assert client.ask(Option.STRUCTURED_REPLY) == DONE
    client.ask(Option.GO, about("disk"))
    assert client.agreed == Agreed(DISK, structured=True)


@pytest.mark.parametrize("option", [Option.STRUCTURED_REPLY, Option.LIST, Option.STARTTLS])
def test_data_where_none_are_expected_are_invalid(option: Option):
    assert kinds(Client().ask(option, b"x")) == [OptionReply.ERR_INVALID]


@pytest.mark.parametrize("option", [Option.EXTENDED_HEADERS, 4, 0, UNKNOWN])
def test_an_option_that_is_not_known_is_unsupported(option: int):
    assert kinds(Client().ask(option, b"what?")) == [OptionReply.ERR_UNSUP]


def test_abort_ends_it_politely():
    client = Client()
    assert client.ask(Option.ABORT) == DONE
    assert (client.is_over, client.agreed) == (True, None)


ALLOCATION = [(OptionReply.META_CONTEXT, struct.pack(">I", 1) + BASE_ALLOCATION.encode()), *DONE]


@pytest.mark.parametrize(
    ("option", "queries", "told"),
    [
        (Option.LIST_META_CONTEXT, (), ALLOCATION),
        (Option.LIST_META_CONTEXT, ("base:",), ALLOCATION),
        (Option.LIST_META_CONTEXT, ("qemu:",), DONE),
        (Option.LIST_META_CONTEXT, (BASE_ALLOCATION, "x"), ALLOCATION),
        (Option.SET_META_CONTEXT, (), DONE),
        (Option.SET_META_CONTEXT, ("base:",), DONE),
        (Option.SET_META_CONTEXT, ("x", BASE_ALLOCATION), ALLOCATION),
    ],
)
def test_contexts_are_told_of(option: Option, queries: tuple[str, ...], told: object):
    client = Client()
    client.ask(Option.STRUCTURED_REPLY)
    assert client.ask(option, contexts("disk", *queries)) == told


@pytest.mark.parametrize(
    ("name", "asks", "tells"), [("disk", True, True), ("big", True, False), ("disk", False, False)]
)
def test_holes_are_told_of_the_export_they_were_asked_for(name: str, asks: bool, tells: bool):
    client = Client()
    client.ask(Option.STRUCTURED_REPLY)
    client.ask(Option.SET_META_CONTEXT, contexts("disk", BASE_ALLOCATION))
    if not asks:
        client.ask(Option.SET_META_CONTEXT, contexts("disk"))
    client.ask(Option.GO, about(name))
    assert client.agreed is not None
    assert client.agreed.tells_holes is tells


def test_contexts_of_an_export_that_is_not_there_are_unknown():
    client = Client()
    client.ask(Option.STRUCTURED_REPLY)
    replies = client.ask(Option.SET_META_CONTEXT, contexts("nobody", BASE_ALLOCATION))
    assert kinds(replies) == [OptionReply.ERR_UNKNOWN]


@pytest.mark.parametrize("data", [b"", contexts("disk", "a") + b"x", string("disk") + b"\0\0\0\2"])
def test_queries_in_no_sense_are_invalid(data: bytes):
    client = Client()
    client.ask(Option.STRUCTURED_REPLY)
    assert kinds(client.ask(Option.SET_META_CONTEXT, data)) == [OptionReply.ERR_INVALID]


def test_contexts_need_structured_replies_first():
    replies = Client().ask(Option.SET_META_CONTEXT, contexts("disk", BASE_ALLOCATION))
    assert kinds(replies) == [OptionReply.ERR_INVALID]


# TLS.


def test_without_certificates_there_is_no_tls():
    client = Client()
    assert kinds(client.ask(Option.STARTTLS)) == [OptionReply.ERR_POLICY]
    assert not client.began_tls


@pytest.mark.parametrize("option", [Option.LIST, Option.INFO, Option.GO, UNKNOWN])
def test_nothing_is_told_before_tls(option: int):
    client = Client(tls=True)
    assert kinds(client.ask(option, about("disk"))) == [OptionReply.ERR_TLS_REQD]
    assert not client.shop.opened


def test_who_chooses_an_export_before_tls_is_hung_up_on():
    client = Client(tls=True)
    assert client.ask(Option.EXPORT_NAME, b"disk") == []
    assert (client.is_over, client.agreed, client.shop.opened) == (True, None, [])


def test_abort_is_understood_before_tls():
    client = Client(tls=True)
    assert client.ask(Option.ABORT) == DONE
    assert client.is_over


def test_what_was_agreed_on_before_tls_does_not_count():
    client = Client(tls=True)
    client.ask(Option.STRUCTURED_REPLY)
    assert client.ask(Option.STARTTLS) == DONE
    assert client.began_tls
    client.ask(Option.GO, about("disk"))
    assert client.agreed is not None
    assert not client.agreed.structured


def test_tls_begins_once():
    client = Client(tls=True)
    client.ask(Option.STARTTLS)
    assert kinds(client.ask(Option.STARTTLS)) == [OptionReply.ERR_INVALID]


def test_start_of_tls_with_data_is_refused():
    client = Client(tls=True)
    assert kinds(client.ask(Option.STARTTLS, b"x")) == [OptionReply.ERR_TLS_REQD]
    assert not client.began_tls


# What is none.


def test_flags_that_nobody_knows_are_no_message_of_the_protocol():
    with pytest.raises(OSError, match="flags 0x7"):
        Client(flags=7)


def test_another_magic_is_no_message_of_the_protocol():
    with pytest.raises(OSError, match="0x7"):
        Client().send(OPTION.pack(7, Option.LIST, 0))


def test_an_option_that_is_too_long_is_not_read():
    with pytest.raises(OSError, match=str(MAX_OPTION_BYTES + 1)):
        Client().send(OPTION.pack(OPTION_MAGIC, Option.LIST, MAX_OPTION_BYTES + 1))


def test_options_without_end_come_to_one():
    client = Client()
    for _ in range(MAX_OPTIONS - 1):
        client.ask(Option.LIST)
    with pytest.raises(OSError, match="options"):
        client.ask(Option.LIST)

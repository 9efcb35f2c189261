"""A client's side of the handshake, against what a server sends."""

import errno
from struct import pack

import pytest

from fusedm.nbd import Export, Receive, Send, StartTls, negotiate, words
from fusedm.nbd.words import ExportFlag, HandshakeFlag, Info, Option, OptionReply

FLAGS = ExportFlag.HAS_FLAGS | ExportFlag.SEND_FLUSH
NEWSTYLE = HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES
SIZE = 1 << 20


def greeting(flags: int = NEWSTYLE) -> bytes:
    return words.GREETING.pack(words.GREETING_MAGIC, words.OPTION_MAGIC, flags)


def reply(option: int, kind: int, data: bytes = b"") -> bytes:
    return words.OPTION_REPLY.pack(words.OPTION_REPLY_MAGIC, option, kind, len(data)) + data


def ack(option: Option) -> bytes:
    return reply(option, OptionReply.ACK)


def unsupported(option: Option) -> bytes:
    return reply(option, OptionReply.ERR_UNSUP)


def info_export(size: int = SIZE, flags: int = FLAGS) -> bytes:
    data = words.INFO_EXPORT.pack(Info.EXPORT, size, flags)
    return reply(Option.GO, OptionReply.INFO, data)


def info_block_size(minimum: int, preferred: int, maximum: int) -> bytes:
    data = words.INFO_BLOCK_SIZE.pack(Info.BLOCK_SIZE, minimum, preferred, maximum)
    return reply(Option.GO, OptionReply.INFO, data)


def context(number: int, name: bytes = b"base:allocation") -> bytes:
    return reply(Option.SET_META_CONTEXT, OptionReply.META_CONTEXT, pack(">I", number) + name)


def play(
    server: bytes, name: str = "disk", with_tls: bool = False, with_structure: bool = True
) -> tuple[Export, list[bytes | str]]:
    """The export, and what the client sent, when the server says just that."""
    sent: list[bytes | str] = []
    script = negotiate(name, with_tls, with_structure)
    step = next(script)
    try:
        while True:
            answer = b""
            match step:
                case Send(data):
                    sent.append(data)
                case StartTls():
                    sent.append("TLS")
                case Receive(count):
                    assert count <= len(server), f"{count} bytes are never sent"
                    answer, server = server[:count], server[count:]
            step = script.send(answer)
    except StopIteration as end:
        assert not server, f"{server!r} is not received"
        return end.value, sent


WITHOUT_STRUCTURE = greeting() + unsupported(Option.STRUCTURED_REPLY)
STRUCTURED = greeting() + ack(Option.STRUCTURED_REPLY)
WITHOUT_EXTENTS = STRUCTURED + ack(Option.SET_META_CONTEXT)


def test_a_server_that_knows_everything_gives_everything() -> None:
    export, sent = play(
        STRUCTURED
        + context(7)
        + ack(Option.SET_META_CONTEXT)
        + info_export()
        + info_block_size(4096, 65536, 1 << 20)
        + ack(Option.GO)
    )
    assert export == Export(SIZE, FLAGS, True, 4096, 1 << 20, 7)
    assert export.can(ExportFlag.SEND_FLUSH)
    assert not export.can(ExportFlag.SEND_FUA)
    assert sent == [
        pack(">I", NEWSTYLE),
        b"IHAVEOPT" + pack(">II", 8, 0),
        b"IHAVEOPT" + pack(">III", 10, 31, 4) + b"disk" + pack(">II", 1, 15) + b"base:allocation",
        b"IHAVEOPT" + pack(">III", 7, 12, 4) + b"disk" + pack(">HH", 1, 3),
    ]


def test_a_server_without_block_sizes_is_taken_to_have_the_protocols() -> None:
    export, _ = play(WITHOUT_EXTENTS + info_export() + ack(Option.GO))
    assert export == Export(SIZE, FLAGS, True, 1, 32 << 20, None)


def test_a_server_without_extents_is_asked_for_none() -> None:
    export, _ = play(
        STRUCTURED + unsupported(Option.SET_META_CONTEXT) + info_export() + ack(Option.GO)
    )
    assert export.allocation is None


def test_a_server_without_structured_replies_is_not_asked_for_extents() -> None:
    export, sent = play(WITHOUT_STRUCTURE + info_export() + ack(Option.GO))
    assert (export.is_structured, export.allocation) == (False, None)
    assert len(sent) == 3


def test_structured_replies_need_not_be_asked_for() -> None:
    export, sent = play(greeting() + info_export() + ack(Option.GO), with_structure=False)
    assert (export.is_structured, export.allocation) == (False, None)
    assert len(sent) == 2
    assert export.is_also(Export(SIZE, FLAGS | ExportFlag.SEND_DF, True, allocation=7))
    assert not export.is_also(Export(SIZE, FLAGS | ExportFlag.READ_ONLY))


def test_a_server_that_knows_only_export_names_is_told_one() -> None:
    export, sent = play(WITHOUT_STRUCTURE + unsupported(Option.GO) + words.EXPORT.pack(SIZE, FLAGS))
    assert export == Export(SIZE, FLAGS)
    assert sent[-1] == b"IHAVEOPT" + pack(">II", 1, 4) + b"disk"


def test_a_server_that_pads_has_its_padding_taken() -> None:
    export, sent = play(
        greeting(HandshakeFlag.FIXED_NEWSTYLE)
        + unsupported(Option.STRUCTURED_REPLY)
        + unsupported(Option.GO)
        + words.EXPORT.pack(SIZE, FLAGS)
        + bytes(124)
    )
    assert export == Export(SIZE, FLAGS)
    assert sent[0] == pack(">I", HandshakeFlag.FIXED_NEWSTYLE)


def test_a_server_that_stands_no_unknown_options_gets_only_the_name() -> None:
    export, sent = play(greeting(0) + words.EXPORT.pack(SIZE, FLAGS) + bytes(124))
    assert export == Export(SIZE, FLAGS)
    assert len(sent) == 2


def test_infos_that_were_not_asked_for_are_passed_over() -> None:
    name = reply(Option.GO, OptionReply.INFO, words.INFO_TYPE.pack(Info.NAME) + b"disk")
    export, _ = play(WITHOUT_EXTENTS + name + info_export() + ack(Option.GO))
    assert export.size == SIZE


def test_a_maximum_is_a_whole_number_of_minima_and_bounded() -> None:
    for told, taken in (((1 << 32) - 1, 32 << 20), (10000, 8192)):
        export, _ = play(
            WITHOUT_EXTENTS + info_export() + info_block_size(4096, 4096, told) + ack(Option.GO)
        )
        assert export.maximum == taken


def test_tls_comes_before_all_else() -> None:
    export, sent = play(
        greeting()
        + ack(Option.STARTTLS)
        + unsupported(Option.STRUCTURED_REPLY)
        + info_export()
        + ack(Option.GO),
        with_tls=True,
    )
    assert export.size == SIZE
    assert sent[1:3] == [b"IHAVEOPT" + pack(">II", 5, 0), "TLS"]


def test_an_export_is_like_another_but_for_the_number_of_its_context() -> None:
    assert Export(SIZE, FLAGS, allocation=1).is_like(Export(SIZE, FLAGS, allocation=2))
    assert not Export(SIZE, FLAGS, allocation=1).is_like(Export(SIZE, FLAGS))
    assert not Export(SIZE, FLAGS).is_like(Export(2 * SIZE, FLAGS))


@pytest.mark.parametrize(
    ("server", "number", "text"),
    [
        (greeting(0), errno.EOPNOTSUPP, "the server does not know TLS"),
        (
            greeting() + unsupported(Option.STARTTLS),
            errno.EOPNOTSUPP,
            "STARTTLS: the server does not know it",
        ),
        (
            greeting() + reply(Option.STARTTLS, OptionReply.ERR_POLICY, b"not\nyou"),
            errno.EACCES,
            "STARTTLS: the server's policy forbids it: not?you",
        ),
    ],
)
def test_a_server_without_tls_is_not_spoken_to_in_the_clear(
    server: bytes, number: int, text: str
) -> None:
    with pytest.raises(OSError, match="TLS") as refused:
        play(server, with_tls=True)
    assert (refused.value.errno, refused.value.strerror) == (number, text)


@pytest.mark.parametrize(
    ("kind", "number", "text"),
    [
        (OptionReply.ERR_UNKNOWN, errno.ENOENT, "GO: the server has no such export: why"),
        (OptionReply.ERR_TLS_REQD, errno.EACCES, "GO: the server demands TLS (nbds): why"),
        (OptionReply.ERR_SHUTDOWN, errno.ESHUTDOWN, "GO: the server is about to end: why"),
        (OptionReply.ERR_INVALID, errno.EINVAL, "GO: the server refuses it with error 3: why"),
        (words.OPTION_ERROR + 99, errno.EINVAL, "GO: the server refuses it with error 99: why"),
        (OptionReply.SERVER, errno.EPROTO, "the reply to GO is of kind 2"),
    ],
)
def test_a_refusal_says_what_the_server_said(kind: int, number: int, text: str) -> None:
    with pytest.raises(OSError, match="GO") as refused:
        play(WITHOUT_STRUCTURE + reply(Option.GO, kind, b"why"))
    assert (refused.value.errno, refused.value.strerror) == (number, text)


OTHER_MAGIC = pack(">QIII", 1, Option.STRUCTURED_REPLY, OptionReply.ACK, 0)
LONG = pack(">QIII", words.OPTION_REPLY_MAGIC, Option.STRUCTURED_REPLY, OptionReply.ACK, 1 << 20)


@pytest.mark.parametrize(
    ("server", "text"),
    [
        (bytes(18), "this is no NBD server: it begins with 0x0"),
        (words.GREETING.pack(words.GREETING_MAGIC, 1, 3), "the server speaks the oldstyle"),
        (greeting() + OTHER_MAGIC, "the reply to STRUCTURED_REPLY begins with 0x1"),
        (greeting() + ack(Option.GO), "the reply to STRUCTURED_REPLY is for option 7"),
        (greeting() + LONG, "the reply to STRUCTURED_REPLY has 1048576 bytes, over 8192"),
        (STRUCTURED + context(1, b"base:x\ty"), "offers context 'base:x?y', unasked"),
        (STRUCTURED + reply(10, OptionReply.SERVER), "SET_META_CONTEXT is of kind 2"),
        (STRUCTURED + 64 * context(1), "over 64 replies to SET_META_CONTEXT"),
        (WITHOUT_EXTENTS + ack(Option.GO), "without a word on its size"),
        (WITHOUT_EXTENTS + 64 * info_export(), "over 64 replies to GO"),
        (
            WITHOUT_EXTENTS + reply(Option.GO, OptionReply.INFO, bytes(3)),
            "an INFO reply of type 0 has 3 bytes",
        ),
        (
            WITHOUT_EXTENTS + reply(Option.GO, OptionReply.INFO, b"\1"),
            "an INFO reply of type 1 has 1 bytes",
        ),
        (
            WITHOUT_EXTENTS + reply(Option.GO, OptionReply.INFO, pack(">HI", 3, 1)),
            "an INFO reply of type 3 has 6 bytes",
        ),
        (WITHOUT_EXTENTS + info_block_size(3, 4096, 4096), "block size of 3 is no power of two"),
        (WITHOUT_EXTENTS + info_block_size(0, 4096, 4096), "block size of 0 is no power of two"),
        (WITHOUT_EXTENTS + info_block_size(1 << 17, 1 << 17, 1 << 20), "131072 is no power of"),
        (WITHOUT_EXTENTS + info_block_size(512, 4096, 512), "maximum block size of 512 is below"),
    ],
)
def test_a_server_that_breaks_the_protocol_is_left(server: bytes, text: str) -> None:
    with pytest.raises(OSError, match=".") as broken:
        play(server)
    assert text in str(broken.value)
    assert broken.value.errno == errno.EPROTO

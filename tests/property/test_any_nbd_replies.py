"""Whatever a server says, an NBD client ends its requests or the connection, and nothing else."""

import errno
import os
from random import Random

from fusedm.nbd import Command, Export, ExportFlag, Receive, Request, Send, Transmission, negotiate
from tests.helpers import nbd_replies as replies
from tests.unit.nbd.test_handshake import STRUCTURED as OPENED
from tests.unit.nbd.test_handshake import ack, context, info_block_size, info_export

#: Conversations of each kind; make fuzz has a hundred thousand.
COUNT = int(os.environ.get("FUSEDM_FUZZ_N") or 3000)
SEED = int(os.environ.get("FUSEDM_FUZZ_SEED") or 1)

GUARD = b"\xa5" * 64


def guarded(random: Random) -> tuple[bytearray, Request]:
    """A request for a part of a buffer, with something around it that nobody may touch."""
    length = random.choice([1, 512, 4096, 20_000])
    around = bytearray(GUARD + bytes(length) + GUARD)
    data = memoryview(around)[len(GUARD) : -len(GUARD)]
    return around, Request(Command.READ, 0, random.randrange(1 << 40), length, data)


def reply_to(random: Random, request: Request) -> bytes:
    """A reply as a server might send it, or nearly."""
    cookie, offset, length = request.cookie, request.offset, request.length
    if random.random() < 0.1:
        cookie += random.choice([-1, 1, 1 << 60])
    if random.random() < 0.1:
        offset, length = offset + random.choice([-512, 1]), length + random.choice([-1, 1, 0])
    cut = random.randrange(1, length) if length > 1 else 1
    content = random.randbytes(length)
    return random.choice(
        [
            lambda: replies.data(cookie, offset, content),
            lambda: (
                replies.data(cookie, offset, content[:cut], is_last=False)
                + replies.hole(cookie, offset + cut, max(length - cut, 0))
            ),
            lambda: replies.hole(cookie, offset, length, is_last=False) + replies.none(cookie),
            lambda: replies.error(cookie, random.randrange(200), b"why"),
            lambda: replies.error_at(cookie, 5, offset),
            lambda: replies.extent(cookie, length, 3),
            lambda: replies.simple(cookie, 0, content),
            lambda: replies.simple(cookie, 5),
            lambda: replies.chunk(cookie, random.randrange(1 << 16), content[:99]),
            lambda: random.randbytes(random.randrange(60)),
        ]
    )()


def test_no_reply_does_more_than_fill_what_was_asked_for() -> None:
    random = Random(SEED)
    outcomes, numbers = {"ended": 0, "broken": 0}, set()
    for _ in range(COUNT):
        flags = ExportFlag.HAS_FLAGS
        transmission = Transmission(Export(1 << 50, flags, random.random() < 0.8, allocation=7))
        begun = [guarded(random) for _ in range(random.randrange(1, 5))]
        for _, request in begun:
            transmission.begin(request)
        order = [request for _, request in begun]
        random.shuffle(order)
        stream = bytearray(b"".join(reply_to(random, request) for request in order))
        if stream and random.random() < 0.3:
            stream[random.randrange(len(stream))] = random.randrange(256)
        ended: list[Request] = []
        try:
            while stream:
                space = transmission.space()
                count = min(len(space), len(stream), random.choice([1, 17, 1000, 1 << 20]))
                space[:count] = stream[:count]
                del space, stream[:count]
                transmission.received(count, ended)
        except OSError as error:
            outcomes["broken"] += 1
            numbers.add(error.errno)
        outcomes["ended"] += len(ended)
        known = [request for _, request in begun]
        assert all(request in known for request in ended)
        assert len({id(request) for request in ended}) == len(ended)
        for around, request in begun:
            assert around.startswith(GUARD)
            assert around.endswith(GUARD)
            is_over = request in ended
            assert is_over != (request.cookie in transmission.in_flight)
            if is_over and not request.error:
                assert request.filled == request.length
    assert numbers == {errno.EPROTO}
    assert min(outcomes.values()) > COUNT // 10


def test_no_handshake_asks_for_much_or_opens_what_cannot_be() -> None:
    random = Random(SEED)
    whole = (
        OPENED
        + context(7)
        + ack(10)  # type: ignore[arg-type]  # a number will do
        + info_export()
        + info_block_size(512, 4096, 1 << 20)
        + ack(7)  # type: ignore[arg-type]  # a number will do
    )
    opened, refusals = 0, set()
    for _ in range(COUNT):
        stream = bytearray(whole)
        for _ in range(random.choice([0, 1, 1, 2, 8])):
            stream[random.randrange(len(stream))] = random.randrange(256)
        script = negotiate("disk", with_tls=False)
        step = next(script)
        try:
            for _ in range(1000):
                answer = b""
                if isinstance(step, Receive):
                    assert step.count <= 8192
                    if step.count > len(stream):
                        break
                    answer = bytes(stream[: step.count])
                    del stream[: step.count]
                else:
                    assert isinstance(step, Send)
                step = script.send(answer)
            else:
                raise AssertionError("it does not end")
        except StopIteration as end:
            opened += 1
            export = end.value
            assert 1 <= export.minimum <= 65536
            assert export.minimum <= export.maximum <= 32 << 20
        except OSError as error:
            refusals.add((error.errno is not None, "\n" in str(error)))
    assert 0 < opened < COUNT
    assert refusals == {(True, False)}

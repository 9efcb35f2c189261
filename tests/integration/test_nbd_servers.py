"""The NBD store with others' servers: over TLS, and with those that make it hard."""

import errno
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from fusedm.block.errors import StoreError
from fusedm.stores import WaitingStore, open_nbd
from tests.helpers.certificates import make_certificates
from tests.helpers.nbd_servers import nbdkit, nbdkit_port

MIB = 1 << 20


@asynccontextmanager
async def opened(uri: str) -> AsyncIterator[WaitingStore]:
    with trio.fail_after(60):
        store = await open_nbd(uri, None, False)
        yield store
        await store.aclose()


async def content(store: WaitingStore, offset: int, length: int) -> bytes:
    buffer = bytearray(length)
    await store.read_into(offset, memoryview(buffer))
    return bytes(buffer)


async def written_and_read(store: WaitingStore) -> None:
    """Write, give up and read at many places at once."""
    data = memoryview(os.urandom(2 * MIB))

    async def work(place: int) -> None:
        offset = place * 65536
        await store.write(offset, data[offset : offset + 65536])
        await store.discard(offset + 4096, 4096)
        expected = bytearray(data[offset : offset + 65536])
        expected[4096:8192] = bytes(4096)
        assert await content(store, offset, 65536) == expected

    async with trio.open_nursery() as nursery:
        for place in range(32):
            nursery.start_soon(work, place)
    await store.flush()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def server(certificates: Path) -> Iterator[str]:
    words = ("--tls=require", f"--tls-certificates={certificates}", "--tls-verify-peer")
    with nbdkit_port(*words, "memory", "4M") as address:
        yield address


async def test_data_go_over_tls_with_certificates_of_both_sides(
    server: str, certificates: Path
) -> None:
    async with opened(f"nbds://{server}/?tls-certificates={certificates}") as store:
        await written_and_read(store)
        assert store.state == "connected"


async def test_data_go_over_tls_on_a_unix_socket(certificates: Path) -> None:
    words = ("--tls=require", f"--tls-certificates={certificates}")
    with nbdkit(*words, "memory", "4M") as uri:
        secure = uri.replace("nbd+unix", "nbds+unix") + f"&tls-certificates={certificates}"
        async with opened(secure) as store:
            await written_and_read(store)


async def test_a_server_that_demands_tls_is_told_of_in_the_clear(server: str) -> None:
    with pytest.raises(StoreError, match=r"the server demands TLS \(nbds\)"):
        await open_nbd(f"nbd://{server}/", None, False)


async def test_a_server_that_nobody_vouches_for_is_refused(server: str) -> None:
    with pytest.raises(StoreError, match="CERTIFICATE_VERIFY_FAILED"):
        await open_nbd(f"nbds://{server}/", None, False)


async def test_a_server_of_another_name_is_refused(server: str, certificates: Path) -> None:
    uri = f"nbds://{server}/?tls-certificates={certificates}&tls-hostname=example.org"
    with pytest.raises(StoreError, match="CERTIFICATE_VERIFY_FAILED"):
        await open_nbd(uri, None, False)


async def test_a_client_without_a_certificate_is_refused(
    server: str, certificates: Path, tmp_path: Path
) -> None:
    shutil.copy(certificates / "ca-cert.pem", tmp_path)
    with pytest.raises(StoreError, match="NBD export '' at localhost") as refused:
        await open_nbd(f"nbds://{server}/?tls-certificates={tmp_path}", None, False)
    assert "\n" not in str(refused.value)


async def test_certificates_that_cannot_be_used_are_told_of_by_their_folder(
    server: str, certificates: Path, tmp_path: Path
) -> None:
    uri = f"nbds://{server}/?tls-certificates={tmp_path}"
    with pytest.raises(StoreError, match=f"certificates in {tmp_path} cannot be used: No such"):
        await open_nbd(uri, None, False)
    for name in ("ca-cert.pem", "client-cert.pem"):
        shutil.copy(certificates / name, tmp_path)
    (tmp_path / "client-key.pem").write_text("a secret")
    with pytest.raises(StoreError, match=f"certificates in {tmp_path} cannot be used") as refused:
        await open_nbd(uri, None, False)
    assert "secret" not in str(refused.value)


HARD = {
    "errors of reading now and then": (["error"], ["error-pread-rate=20%"]),
    "errors of writing now and then": (["error"], ["error-pwrite-rate=20%"]),
    "a delay": (["delay"], ["rdelay=5ms", "wdelay=5ms", "delay-zero=5ms"]),
    "block sizes": (
        ["blocksize-policy"],
        ["blocksize-minimum=4096", "blocksize-maximum=64k", "blocksize-error-policy=error"],
    ),
    "no extents": (["noextents"], []),
    "no zeroing": (["nozero"], []),
    "no multi-conn": (["multi-conn"], ["multi-conn-mode=disable"]),
    "a cache": (["cache"], []),
}


@pytest.mark.parametrize(("filters", "options"), HARD.values(), ids=HARD)
async def test_a_server_that_makes_it_hard_has_the_same_data(
    filters: list[str], options: list[str]
) -> None:
    words = [f"--filter={name}" for name in filters]
    with nbdkit(*words, "memory", "4M", *options) as uri:
        async with opened(uri) as store:
            if "error" not in filters:
                await written_and_read(store)
                return
            data, failed_with = memoryview(os.urandom(4096)), []
            for place in range(100):
                try:
                    await store.write(place * 4096, data)
                    assert await content(store, place * 4096, 4096) == data
                except OSError as error:
                    failed_with.append(error.errno)
            assert 0 < len(failed_with) < 100
            assert set(failed_with) == {errno.EIO}
            assert store.state == "connected"


async def test_a_write_beyond_what_is_there_already_is_checked_by_the_server(
    tmp_path: Path,
) -> None:
    image = tmp_path / "image"
    image.write_bytes(os.urandom(65536))
    with nbdkit("--filter=checkwrite", "file", str(image)) as uri:
        async with opened(uri) as store:
            await store.write(4096, memoryview(image.read_bytes()[4096:8192]))
            with pytest.raises(OSError, match=".") as differs:
                await store.write(4096, memoryview(bytes(4096)))
            assert differs.value.errno == errno.EIO


async def test_a_server_that_opens_its_medium_anew_is_waited_for(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(4 * MIB))
    words = ("--filter=retry", "--filter=error", "file", str(image))
    options = ("error-pread-rate=5%", "retry-delay=1", "retry-exponential=no")
    with nbdkit(*words, *options) as uri:
        async with opened(uri) as store:
            for place in range(40):
                assert await content(store, place * 4096, 4096) == bytes(4096)

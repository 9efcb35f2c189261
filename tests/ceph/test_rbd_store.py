"""Images of a real cluster as stores: what librbd and the cluster do, and what comes of it."""

import errno
from collections.abc import Awaitable, Callable
from random import Random

import pytest
import trio

from fusedm.block.errors import StoreError
from fusedm.stores import open_rbd
from tests.ceph.conftest import MakeImage
from tests.helpers.ceph.cluster import Cluster
from tests.helpers.ceph.opened import SHORT, contents, opened, text_of

pytestmark = pytest.mark.ceph

SECTOR = 512
MIB = 1 << 20
#: Of librbd's, below which it drops discards.
GRANULARITY = 64 << 10


@pytest.fixture
def image(make_image: MakeImage) -> str:
    return make_image(16 * MIB)


def pattern(length: int, seed: int = 1) -> memoryview:
    return memoryview(Random(seed).randbytes(length))


async def test_an_image_has_its_own_size_and_says_how_it_is(ceph: Cluster, image: str) -> None:
    async with opened(ceph, image) as store:
        assert (store.size, store.logical_block_size) == (16 * MIB, SECTOR)
        assert not store.read_only
        assert store.allocated_bytes == 0
        assert store.state == "connected, writearound cache from the first flush on"
    assert store.state == "closed"


async def test_a_part_of_an_image_can_be_a_store_and_more_than_all_cannot(
    ceph: Cluster, image: str
) -> None:
    async with opened(ceph, image, 5 * MIB) as store:
        assert store.size == 5 * MIB
        assert await store.seek_hole(5 * MIB - 1) == 5 * MIB - 1
        assert await store.seek_data(0) == 5 * MIB
    with pytest.raises(StoreError, match=f"{image}: too small: has {16 * MIB} bytes"):
        await open_rbd(text_of(ceph, image), 16 * MIB + SECTOR, False)
    # The one that was refused has let go of the exclusive lock.
    async with opened(ceph, image):
        pass


async def test_an_image_with_half_a_sector_is_refused(ceph: Cluster, make_image: MakeImage) -> None:
    with pytest.raises(StoreError, match=r"size 1000 is not a whole number of 512-byte blocks"):
        await open_rbd(text_of(ceph, make_image(1000)), None, False)


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (SECTOR, SECTOR),
        (0, GRANULARITY - SECTOR),
        (GRANULARITY - SECTOR, 2 * GRANULARITY),
        (4 * MIB - SECTOR, 2 * SECTOR),
        (SECTOR, 12 * MIB),
        (0, 16 * MIB),
    ],
)
async def test_what_is_discarded_reads_as_zeros_however_short_and_unaligned(
    ceph: Cluster, image: str, offset: int, length: int
) -> None:
    data = pattern(16 * MIB)
    async with opened(ceph, image) as store:
        await store.write(0, data)
        await store.flush()
        await store.discard(offset, length)
        expected = bytearray(data)
        expected[offset : offset + length] = bytes(length)
        assert await contents(store, 0, store.size) == expected
        await store.flush()
    assert ceph.rbd_bytes("export", image, "-") == expected


async def test_what_is_flushed_is_there_after_the_osd_has_died(ceph: Cluster, image: str) -> None:
    data = pattern(8 * MIB)
    async with opened(ceph, image) as store:
        # After the first flush the cache acknowledges early.
        await store.flush()
        await store.write(0, data[: 4 * MIB])
        await store.flush()
        await store.write(4 * MIB, data[4 * MIB :], durably=True)
        ceph.kill("osd")
        ceph.start_osd()
        assert await contents(store, 0, 8 * MIB) == data
    assert ceph.rbd_bytes("export", image, "-")[: 8 * MIB] == data


async def test_a_hung_osd_ends_in_timeouts_and_no_late_answer_reaches_a_buffer(
    ceph: Cluster, image: str
) -> None:
    data = pattern(16 * MIB)
    async with opened(ceph, image, seconds=SHORT) as store:
        await store.write(0, data)
        await store.flush()
        buffer = bytearray(b"\xee" * 16 * MIB)
        with ceph.hung():
            async with trio.open_nursery() as nursery:
                for offset in range(0, 16 * MIB, MIB):
                    part = memoryview(buffer)[offset : offset + MIB]
                    nursery.start_soon(timed_out, store.read_into, offset, part)
            assert store.state == "the cluster does not answer in time"
        # It goes on, and has answered what was asked first.
        assert await contents(store, 0, 16 * MIB) == data
        assert buffer == b"\xee" * 16 * MIB
        assert store.state.startswith("connected")


async def test_a_write_behind_the_cache_that_is_lost_fails_the_flush(
    ceph: Cluster, image: str
) -> None:
    async with opened(ceph, image, seconds=SHORT) as store:
        await store.write(0, pattern(SECTOR))
        await store.flush()
        with ceph.hung():
            await store.write(0, pattern(SECTOR, 2))
            await timed_out(store.flush)
            await timed_out(store.write, 0, pattern(SECTOR, 3), True)
            await store.discard(0, SECTOR)
            with pytest.raises(OSError, match="timed out"):
                await store.aclose()


async def test_without_a_cache_a_lost_write_fails_itself(ceph: Cluster, image: str) -> None:
    ceph.rbd("config", "image", "set", image, "rbd_cache", "false")
    async with opened(ceph, image, seconds=SHORT) as store:
        assert store.state == "connected, no write cache"
        await store.write(0, pattern(SECTOR))
        await store.flush()
        with ceph.hung():
            await timed_out(store.write, 0, pattern(SECTOR, 2))
            await timed_out(store.write_zeroes, 0, SECTOR)


async def test_requests_that_wait_for_long_are_told_of(ceph: Cluster, image: str) -> None:
    async with opened(ceph, image) as store:
        await store.write(0, pattern(SECTOR), durably=True)
        async with trio.open_nursery() as nursery:
            with ceph.hung():
                nursery.start_soon(contents, store, 0, SECTOR)
                await until(lambda: store.state.endswith("1 wait"))


async def test_a_call_that_has_begun_is_not_cancelled(ceph: Cluster, image: str) -> None:
    async with opened(ceph, image, seconds=SHORT) as store:
        await store.write(0, pattern(SECTOR), durably=True)
        with ceph.hung(), trio.move_on_after(0.1) as scope:
            await timed_out(store.read_into, 0, memoryview(bytearray(SECTOR)))
        assert not scope.cancelled_caught


async def test_a_hung_osd_does_not_keep_a_store_from_being_given_up_while_it_opens(
    ceph: Cluster, image: str
) -> None:
    with ceph.hung():
        with trio.move_on_after(0.2) as scope:
            await open_rbd(text_of(ceph, image, SHORT), None, False)
        assert scope.cancelled_caught
        with pytest.raises(StoreError, match=f"{image}: .*: Connection timed out"):
            await open_rbd(text_of(ceph, image, SHORT), None, False)


async def test_a_store_given_up_while_it_opens_leaves_no_lock(ceph: Cluster, image: str) -> None:
    for seconds in (0.0, 0.005, 0.01, 0.02, 0.03, 0.04):
        with trio.move_on_after(seconds):
            await (await open_rbd(text_of(ceph, image), None, False)).aclose()
    await until(lambda: not ceph.rbd("lock", "ls", image).strip())


async def test_a_snapshot_is_a_read_only_store_of_what_was(ceph: Cluster, image: str) -> None:
    async with opened(ceph, image) as store:
        await store.write(0, pattern(SECTOR), durably=True)
        ceph.rbd("snap", "create", f"{image}@then")
        await store.write(0, pattern(SECTOR, 2), durably=True)
        async with opened(ceph, f"{image}@then") as then:
            assert then.read_only
            assert await contents(then, 0, SECTOR) == pattern(SECTOR)
            assert await then.seek_data(0) == 0
            assert await then.seek_hole(0) == 4 * MIB
            for change in (then.discard, then.write_zeroes):
                with pytest.raises(OSError, match="Read-only") as refused:
                    await change(0, SECTOR)
                assert refused.value.errno == errno.EROFS
            with pytest.raises(OSError, match="Read-only"):
                await then.write(0, pattern(SECTOR))


async def test_a_namespace_has_images_of_its_own(ceph: Cluster) -> None:
    ceph.rbd("namespace", "create", "rbd/tenant")
    ceph.rbd("create", "--size", "1M", "rbd/tenant/disk")
    async with opened(ceph, "rbd/tenant/disk") as store:
        assert store.size == MIB
    with pytest.raises(StoreError, match="rbd/disk: the image cannot be opened: No such file"):
        await open_rbd(text_of(ceph, "rbd/disk"), None, False)


async def test_two_cannot_write_one_image_and_others_may_read_it(ceph: Cluster, image: str) -> None:
    async with opened(ceph, image) as store:
        with pytest.raises(StoreError, match="is in use: another client has its") as refused:
            await open_rbd(text_of(ceph, image), None, False)
        assert refused.value.errno == errno.EBUSY
        await store.write(0, pattern(SECTOR), durably=True)
        async with opened(ceph, image, read_only=True) as reader:
            assert reader.read_only
            assert await contents(reader, 0, SECTOR) == pattern(SECTOR)
            assert await reader.seek_data(0) == 0
            await store.write(12 * MIB, pattern(SECTOR), durably=True)
            assert await reader.seek_data(4 * MIB) == 12 * MIB
    async with opened(ceph, image):
        pass


async def test_an_image_taken_by_another_client_is_lost_and_said_to_be(
    ceph: Cluster, image: str
) -> None:
    async with opened(ceph, image) as store:
        await store.write(0, pattern(SECTOR), durably=True)
        locker, *lock_id, _ = ceph.rbd("lock", "ls", image).splitlines()[-1].split()
        ceph.rbd("lock", "rm", image, " ".join(lock_id), locker)
        with pytest.raises(OSError, match="shutdown") as lost:
            await store.write(0, pattern(SECTOR, 2), durably=True)
        assert lost.value.errno == errno.ESHUTDOWN
        assert store.state == "blocklisted: another client has taken the image"
        with pytest.raises(OSError, match="shutdown"):
            await contents(store, 0, SECTOR)
        async with opened(ceph, image) as other:
            assert await contents(other, 0, SECTOR) == pattern(SECTOR)
        with pytest.raises(OSError, match="shutdown"):
            await store.aclose()


async def test_an_image_cut_below_us_says_so_and_goes_on_before_its_end(
    ceph: Cluster, image: str
) -> None:
    async with opened(ceph, image) as store:
        await store.write(0, pattern(SECTOR), durably=True)
        ceph.rbd("resize", "--allow-shrink", "--size", "8M", image)
        for offset in (8 * MIB - SECTOR, 12 * MIB):
            with pytest.raises(OSError, match="Input/output error") as refused:
                await contents(store, offset, 2 * SECTOR)
            assert refused.value.errno == errno.EIO
        with pytest.raises(OSError, match="Input/output error"):
            await store.write(12 * MIB, pattern(SECTOR))
        assert store.state == f"the image has been cut to {8 * MIB} of {16 * MIB} bytes"
        assert await contents(store, 0, SECTOR) == pattern(SECTOR)
        assert store.state == f"the image has been cut to {8 * MIB} of {16 * MIB} bytes"


@pytest.mark.parametrize("read_only", [False, True])
async def test_an_image_in_use_is_not_removed_below_us(
    ceph: Cluster, image: str, read_only: bool
) -> None:
    async with opened(ceph, image, read_only=read_only):
        with pytest.raises(Exception, match="still has watchers"):
            ceph.rbd("rm", image)


async def test_data_and_holes_are_told_by_objects(ceph: Cluster, image: str) -> None:
    async with opened(ceph, image, seconds=SHORT) as store:
        assert await store.seek_data(0) == 16 * MIB
        await store.write(5 * MIB, pattern(SECTOR))
        assert await store.seek_data(0) == 4 * MIB
        assert await store.seek_hole(5 * MIB) == 8 * MIB
        assert store.allocated_bytes == 4 * MIB
        await store.discard(4 * MIB, 4 * MIB)
        assert await store.seek_data(0) == 16 * MIB
        assert await store.seek_hole(3) == 3
        assert store.allocated_bytes == 0
    async with opened(ceph, image, seconds=SHORT) as store:
        await store.write(0, pattern(SECTOR))
        with ceph.hung():
            assert await store.seek_data(0) == 0
            await timed_out(store.discard, 0, SECTOR)


async def test_an_image_without_features_is_used_without_lock_and_map(
    ceph: Cluster, make_image: MakeImage
) -> None:
    image = make_image(16 * MIB, "--image-feature", "layering")
    async with opened(ceph, image, seconds=SHORT) as store:
        assert store.state.endswith("cache from the first flush on, no exclusive lock")
        assert store.allocated_bytes == store.size
        await store.write(4 * MIB, pattern(SECTOR), durably=True)
        assert await store.seek_data(0) == 4 * MIB
        assert await store.seek_hole(4 * MIB) == 8 * MIB
        assert store.allocated_bytes == 4 * MIB
        await store.discard(0, SECTOR)
        with ceph.hung():
            # Without a map each object is asked for.
            await timed_out(store.seek_hole, 0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rbd:nopool/x?conf={conf}", "rbd:nopool/x: pool nopool cannot be opened: No such"),
        ("rbd:rbd/nix?conf={conf}", "rbd:rbd/nix: the image cannot be opened: No such file"),
        ("rbd:rbd/nix@s?conf={conf}", "rbd:rbd/nix@s: the image or snapshot cannot be opened: No"),
        ("rbd:rbd/x?conf=/nix/conf", "rbd:rbd/x: /nix/conf: cannot be read: No such file"),
        ("rbd:rbd/x?conf={conf}&id=nix", "rbd:rbd/x: client.nix: the cluster cannot be reached"),
        ("rbd:rbd/x?conf={wrong_key}", "refuses its key: Permission denied"),
        ("rbd:rbd/x?conf={no_monitor}&timeout=1", "cannot be reached, .*: Connection timed out"),
    ],
)
async def test_what_is_wrong_with_an_address_is_one_line_without_keys(
    ceph: Cluster, text: str, says: str
) -> None:
    confs = {name: ceph.folder / f"{name}.conf" for name in ("wrong_key", "no_monitor")}
    good = ceph.conf.read_text()
    (ceph.folder / "wrong.keyring").write_text("[client.admin]\n\tkey = " + WRONG_KEY + "\n")
    confs["wrong_key"].write_text(good.replace("/keyring\n", "/wrong.keyring\n"))
    port = good.split("mon host = v2:127.0.0.1:")[1].split("\n")[0]
    confs["no_monitor"].write_text(good.replace(f":{port}\n", ":1\n"))
    with pytest.raises(StoreError, match=says) as refused:
        await open_rbd(text.format(conf=ceph.conf, **confs), None, False)
    assert "\n" not in str(refused.value)
    assert WRONG_KEY not in str(refused.value)


#: Of the right form.
WRONG_KEY = "AQAAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAAAA=="


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for what nobody tells of."""
    while not is_so():  # noqa: ASYNC110  # the cluster has no event of it
        await trio.sleep(0.05)


async def timed_out(call: Callable[..., Awaitable[object]], *arguments: object) -> None:
    """Calls, and sees it fail with ETIMEDOUT."""
    with pytest.raises(OSError, match="timed out") as failed:
        await call(*arguments)
    assert failed.value.errno == errno.ETIMEDOUT

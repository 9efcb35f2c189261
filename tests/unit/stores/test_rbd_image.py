"""Open images over a library that fails wherever it can."""

import errno
import os
import threading
from pathlib import Path
from typing import cast

import pytest

from fusedm.block.errors import StoreError
from fusedm.stores.rbd.address import Address, parse_address
from fusedm.stores.rbd.image import Image
from fusedm.stores.rbd.library import VARIABLE, Library, load_library
from tests.helpers.fake_librbd import OBJECT, FakeLibrbd

ADDRESS = parse_address("rbd:pool/image?conf=/my.conf&id=joe&timeout=7")


def opened(library: FakeLibrbd, read_only: bool = False, address: Address = ADDRESS) -> Image:
    image = Image(cast(Library, library), address, read_only)
    image.open(threading.Event())
    return image


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_what_is_opened_is_closed_the_other_way_round() -> None:
    library, before = FakeLibrbd(), descriptors()
    image = opened(library)
    assert (image.size, image.object_size, image.is_ours_alone) == (4 * OBJECT, OBJECT, True)
    image.close()
    assert library.calls[-3:] == ["rbd_close", "rados_ioctx_destroy", "rados_shutdown"]
    assert library.left_open() == {}
    assert descriptors() == before


def test_every_wait_has_the_timeout_and_nothing_is_printed() -> None:
    library = FakeLibrbd()
    opened(library).close()
    for name in (b"rados_osd_op_timeout", b"rados_mon_op_timeout", b"client_mount_timeout"):
        assert library.settings[name] == b"7"
    assert library.settings[b"log_to_stderr"] == b"false"
    assert library.settings[b"rbd_disable_zero_copy_writes"] == b"true"


@pytest.mark.parametrize(
    ("function", "text"),
    [
        ("rados_create", "librados"),
        ("rados_conf_read_file", "/my.conf: cannot be read"),
        ("rados_conf_set", "log_to_stderr cannot be set"),
        ("rados_connect", "client.joe: the cluster cannot be reached, or refuses its key"),
        ("rados_ioctx_create", "pool pool cannot be opened"),
        ("rbd_open", "the image cannot be opened"),
        ("rbd_stat", "its size cannot be read"),
        ("rbd_get_features", "its features cannot be read"),
        ("rbd_lock_get_owners", "who has its exclusive lock cannot be found out"),
        ("rbd_watchers_list", "who has it open cannot be found out"),
        ("rbd_lock_acquire", "its exclusive lock cannot be had"),
        ("rbd_set_image_notification", "librbd cannot tell of what has finished"),
    ],
)
def test_a_step_that_fails_is_told_of_and_leaves_nothing_open(function: str, text: str) -> None:
    library, before = FakeLibrbd(), descriptors()
    library.owner = b"somebody"
    library.failing[function] = errno.ENOMEM
    with pytest.raises(StoreError, match=text) as failed:
        opened(library)
    assert str(failed.value) == f"rbd:pool/image: {text}: {os.strerror(errno.ENOMEM)}"
    assert failed.value.errno == errno.ENOMEM
    assert library.left_open() == {}
    assert descriptors() == before


def test_one_that_is_given_up_is_closed_after_the_step_that_was_under_way() -> None:
    library, given_up = FakeLibrbd(), threading.Event()
    given_up.set()
    with pytest.raises(StoreError, match="was given up while it was opened"):
        Image(cast(Library, library), ADDRESS, False).open(given_up)
    assert "rbd_open" not in library.calls
    assert library.left_open() == {}


def test_a_client_that_lives_keeps_the_lock_and_one_that_has_died_does_not() -> None:
    library = FakeLibrbd()
    library.owner, library.watchers = b"127.0.0.1:0/1", [b"127.0.0.1:0/2", b"127.0.0.1:0/1"]
    with pytest.raises(StoreError, match="is in use: another client has its") as refused:
        opened(library)
    assert refused.value.errno == errno.EBUSY
    assert "rbd_lock_acquire" not in library.calls
    library.watchers.pop()
    opened(library).close()


def test_a_lock_that_is_refused_is_another_clients() -> None:
    library = FakeLibrbd()
    library.failing["rbd_lock_acquire"] = errno.EROFS
    with pytest.raises(StoreError, match="is in use: another client has its exclusive lock"):
        opened(library)


def test_an_image_is_opened_for_reading_only_where_it_cannot_be_watched() -> None:
    library = FakeLibrbd()
    opened(library, read_only=True).close()
    assert "rbd_open_read_only" not in library.calls
    library.failing["rbd_open"] = errno.EPERM
    image = opened(library, read_only=True)
    assert image.read_only
    assert not image.is_ours_alone
    image.close()
    assert "rbd_open_read_only" in library.calls
    assert "rbd_lock_acquire" not in library.calls
    with pytest.raises(StoreError, match="the image cannot be opened: Operation not permitted"):
        opened(library)


def test_a_snapshot_is_read_only_and_nobody_changes_it() -> None:
    library = FakeLibrbd()
    image = opened(library, address=parse_address("rbd:p/i@s"))
    assert image.read_only
    assert image.is_ours_alone
    image.close()
    library.failing["rbd_open_read_only"] = errno.ENOENT
    with pytest.raises(StoreError, match="rbd:p/i@s: the image or snapshot cannot be opened"):
        opened(library, address=parse_address("rbd:p/i@s"))


def test_without_a_conf_the_usual_places_are_named() -> None:
    library = FakeLibrbd()
    library.failing["rados_conf_read_file"] = errno.ENOENT
    with pytest.raises(StoreError, match="no conf=PATH, and the usual places: cannot be read"):
        opened(library, address=parse_address("rbd:p/i"))


@pytest.mark.parametrize(
    ("options", "mode"),
    [
        ({"rbd_cache": "false"}, "no write cache"),
        ({"rbd_cache": "true", "rbd_cache_policy": "writethrough"}, "no write cache"),
        ({"rbd_cache": "true", "rbd_cache_max_dirty": "0"}, "no write cache"),
        ({"rbd_cache": "true"}, "writeback cache"),
        (
            {
                "rbd_cache": "true",
                "rbd_cache_policy": "writearound",
                "rbd_cache_writethrough_until_flush": "true",
            },
            "writearound cache from the first flush on",
        ),
    ],
)
def test_how_writes_are_cached_is_found_out(options: dict[str, str], mode: str) -> None:
    library = FakeLibrbd()
    library.options = options
    image = opened(library)
    assert image.cache == mode
    image.close()


def test_a_cache_that_cannot_be_found_out_is_unknown() -> None:
    library = FakeLibrbd()
    library.failing["rbd_config_image_list"] = errno.EINVAL
    image = opened(library)
    assert image.cache == "cache unknown"
    image.close()


@pytest.mark.parametrize("call", ["read", "write", "write_zeroes", "flush"])
@pytest.mark.parametrize("is_early", [False, True])
def test_a_request_that_cannot_begin_gives_its_buffer_back(call: str, is_early: bool) -> None:
    library, buffer = FakeLibrbd(), bytearray(512)
    image = opened(library)
    arguments: dict[str, tuple[object, ...]] = {
        "read": (0, memoryview(buffer)),
        "write": (0, memoryview(buffer)),
        "write_zeroes": (0, 512),
        "flush": (),
    }
    failing = "rbd_aio_create_completion" if is_early else f"rbd_aio_{call}"
    library.failing[failing] = errno.ENOMEM
    with pytest.raises(OSError, match="Cannot allocate memory"):
        getattr(image, call)(*arguments.pop(call))
    arguments.clear()
    buffer.append(0)
    image.close()
    assert library.left_open() == {}


def test_buffers_are_lent_until_their_requests_have_finished() -> None:
    library, buffer = FakeLibrbd(), bytearray(512)
    image = opened(library)
    number = image.write(0, memoryview(buffer))
    with pytest.raises(BufferError):
        buffer.append(0)
    assert list(image.finished()) == [(number, 0)]
    buffer.append(0)
    image.close()


def test_a_buffer_that_cannot_be_written_is_not_read_into() -> None:
    library = FakeLibrbd()
    image = opened(library)
    with pytest.raises(BufferError):
        image.read(0, memoryview(bytes(512)))
    assert "rbd_aio_read" not in library.calls
    image.close()


def test_more_that_has_finished_than_is_asked_for_at_once_is_all_found() -> None:
    library = FakeLibrbd()
    image = opened(library)
    numbers = [image.flush() for _ in range(150)]
    assert [number for number, _ in image.finished()] == numbers
    image.close()
    assert library.left_open() == {}


@pytest.mark.parametrize(
    ("function", "call"),
    [
        ("rbd_poll_io_events", lambda image: list(image.finished())),
        ("rbd_diff_iterate2", lambda image: image.extents()),
        ("rbd_stat", lambda image: image.size_now()),
    ],
)
def test_what_else_fails_is_an_error_with_its_number(function: str, call: object) -> None:
    library = FakeLibrbd()
    image = opened(library)
    library.failing[function] = errno.ENOMEM
    with pytest.raises(OSError, match="Cannot allocate memory") as failed:
        call(image)  # type: ignore[operator]  # a lambda of the table
    assert failed.value.errno == errno.ENOMEM
    image.close()


def test_without_librbd_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "libnix.so.1")
    with pytest.raises(StoreError, match="rbd: libnix.so.1 cannot be loaded: apt-get install"):
        load_library()
    monkeypatch.setenv(VARIABLE, "libc.so.6")
    with pytest.raises(StoreError, match="rbd: libc.so.6 is too old: it has no rados_create"):
        load_library()

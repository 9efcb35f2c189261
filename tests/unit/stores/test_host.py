"""Calls that go to the kernel directly."""

import errno
import os
import tempfile

import pytest

from fusedm.stores.host import allocated_bytes, is_in_memory, punch_hole


def test_a_hole_reads_as_zeros_and_keeps_the_size() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"x" * 12288)
        file.flush()
        punch_hole(file.fileno(), 4096, 8192)
        assert os.pread(file.fileno(), 20000, 0) == b"x" * 4096 + bytes(8192)


def test_a_hole_refused_by_the_host_raises_its_errno() -> None:
    with tempfile.TemporaryFile() as file, pytest.raises(OSError, match="Invalid") as refused:
        punch_hole(file.fileno(), 0, 0)
    assert refused.value.errno == errno.EINVAL


def test_a_file_takes_what_was_written_and_what_is_none_all_of_its_size() -> None:
    with tempfile.TemporaryFile() as file:
        file.truncate(1 << 30)
        file.write(b"x" * 8192)
        file.flush()
        assert 8192 <= allocated_bytes(file.fileno(), 1 << 30) < 1 << 20
    with open("/dev/null", "rb") as device:
        assert allocated_bytes(device.fileno(), 4096) == 4096
    assert allocated_bytes(-1, 4096) == 4096


def test_a_file_of_the_kernel_s_memory_is_in_memory() -> None:
    fd = os.memfd_create("in-memory")
    try:
        assert is_in_memory(fd)
    finally:
        os.close(fd)


def test_a_file_system_that_is_not_known_to_be_in_memory_is_not_called_so() -> None:
    with open("/proc/version", "rb") as file:
        assert not is_in_memory(file.fileno())


def test_no_file_system_at_all_is_not_in_memory() -> None:
    assert not is_in_memory(-1)

"""Keys from every source, and what is said when there is none to be had."""

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusedm.block import MODES
from fusedm.block.errors import CryptoError, StackError
from fusedm.stack.key_sources import load_key
from tests.helpers.keyring import Keyring

KEY = bytes(range(200, 232))
SIZE = len(KEY)
HEX = KEY.hex().encode()


def key_file(directory: Path, data: bytes, mode: int = 0o600) -> Path:
    path = directory / "k"
    path.write_bytes(data)
    path.chmod(mode)
    return path


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


@pytest.mark.parametrize(
    "data", [KEY, HEX, HEX + b"\n", HEX + b"\r\n", HEX.upper()], ids=["raw", *"abcd"]
)
def test_a_file_is_raw_or_hexadecimal(tmp_path: Path, data: bytes) -> None:
    key_file(tmp_path, data)
    assert load_key("file:k", SIZE, tmp_path) == bytearray(KEY)


def test_an_absolute_path_is_taken_as_it_is(tmp_path: Path) -> None:
    assert load_key(f"file:{key_file(tmp_path, KEY)}", SIZE, Path("/nowhere")) == bytearray(KEY)


@pytest.mark.parametrize("length", [0, 1, SIZE - 1, SIZE + 1, 2 * SIZE - 1, 2 * SIZE + 2])
def test_a_wrong_length_is_refused_with_both_numbers(tmp_path: Path, length: int) -> None:
    key_file(tmp_path, b"a" * length)
    with pytest.raises(CryptoError) as caught:
        load_key("file:k", SIZE, tmp_path)
    assert str(caught.value) == (
        f"key source 'file:k': it holds {length} bytes, not 32 bytes or 64 hexadecimal digits"
    )


@pytest.mark.parametrize("size", sorted({mode.key_size for mode in MODES.values()}))
@pytest.mark.parametrize("source", ["file:k", "env:FUSEDM_TEST_KEY"])
def test_every_size_of_key_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, source: str
) -> None:
    key = bytes(range(size))
    key_file(tmp_path, key)
    monkeypatch.setenv("FUSEDM_TEST_KEY", key.hex())
    assert load_key(source, size, tmp_path) == key
    assert len(load_key("random", size, tmp_path)) == size


@pytest.mark.parametrize("size", [16, 32, 64])
def test_digits_of_a_key_half_the_size_are_not_the_bytes_of_one(tmp_path: Path, size: int) -> None:
    key_file(tmp_path, os.urandom(size // 2).hex().encode())
    with pytest.raises(CryptoError) as caught:
        load_key("file:k", size, tmp_path)
    assert str(caught.value) == (
        f"key source 'file:k': it holds {size} hexadecimal digits, which are {size // 2} bytes: "
        f"not {size} bytes or {2 * size} hexadecimal digits"
    )


def test_what_is_not_hexadecimal_is_refused_and_not_shown(tmp_path: Path) -> None:
    key_file(tmp_path, b"secret" + b"0" * (2 * SIZE - 6))
    with pytest.raises(CryptoError) as caught:
        load_key("file:k", SIZE, tmp_path)
    assert str(caught.value) == (
        "key source 'file:k': it holds 64 bytes, not 32 bytes or 64 hexadecimal digits"
    )
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o644, 0o666])
def test_a_file_open_to_everyone_is_refused(tmp_path: Path, mode: int) -> None:
    key_file(tmp_path, KEY, mode)
    with pytest.raises(StackError) as caught:
        load_key("file:k", SIZE, tmp_path)
    assert str(caught.value) == (
        f"key source 'file:k': its mode {mode:o} lets everyone at the key, chmod 600 it"
    )
    assert caught.value.errno == errno.EACCES


def test_a_file_open_to_its_group_is_accepted(tmp_path: Path) -> None:
    key_file(tmp_path, KEY, 0o660)
    assert load_key("file:k", SIZE, tmp_path) == bytearray(KEY)


def test_a_missing_file_is_refused_with_its_errno(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="^key source 'file:k': No such file or directory$") as e:
        load_key("file:k", SIZE, tmp_path)
    assert e.value.errno == errno.ENOENT


def test_a_directory_is_refused_with_its_errno(tmp_path: Path) -> None:
    (tmp_path / "k").mkdir(mode=0o700)
    with pytest.raises(StackError, match="^key source 'file:k': Is a directory$") as caught:
        load_key("file:k", SIZE, tmp_path)
    assert caught.value.errno == errno.EISDIR


def test_a_file_leaves_no_fd_open(tmp_path: Path) -> None:
    key_file(tmp_path, KEY)
    before = os.listdir("/proc/self/fd")
    load_key("file:k", SIZE, tmp_path)
    assert os.listdir("/proc/self/fd") == before


def test_an_endless_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    key_file(tmp_path, b"0" * (2 * SIZE + 3))
    with pytest.raises(CryptoError) as caught:
        load_key("file:k", SIZE, tmp_path)
    assert str(caught.value) == (
        "key source 'file:k': it holds more than 66 bytes, not 32 bytes or 64 hexadecimal digits"
    )


def test_an_environment_variable_is_hexadecimal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSEDM_TEST_KEY", HEX.decode())
    assert load_key("env:FUSEDM_TEST_KEY", SIZE, Path()) == bytearray(KEY)


def test_an_environment_variable_is_never_raw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSEDM_TEST_KEY", "z" * SIZE)
    with pytest.raises(CryptoError) as caught:
        load_key("env:FUSEDM_TEST_KEY", SIZE, Path())
    assert str(caught.value) == (
        "key source 'env:FUSEDM_TEST_KEY': it holds 32 bytes, not 64 hexadecimal digits"
    )


def test_a_missing_environment_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FUSEDM_TEST_KEY", raising=False)
    with pytest.raises(StackError, match="FUSEDM_TEST_KEY': no such environment variable$"):
        load_key("env:FUSEDM_TEST_KEY", SIZE, Path())


@pytest.mark.parametrize("data", [KEY, HEX + b"\n"], ids=["raw", "hex"])
def test_an_fd_is_read_to_its_end_over_short_reads(data: bytes) -> None:
    reader, writer = os.pipe()

    def feed() -> None:
        for begin in range(0, len(data), 7):
            os.write(writer, data[begin : begin + 7])
        os.close(writer)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        assert load_key(f"fd:{reader}", SIZE, Path()) == bytearray(KEY)
    finally:
        feeder.join()
        os.close(reader)


def test_a_pipe_that_never_ends_is_refused_after_the_limit(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.write(writer, b"0" * 1000)
    with pytest.raises(CryptoError, match="it holds more than 66 bytes"):
        load_key(f"fd:{reader}", SIZE, Path())
    assert len(os.read(reader, 4096)) == 1000 - 67


def test_an_fd_that_is_not_open_is_refused(pipe: tuple[int, int]) -> None:
    closed = os.dup(pipe[0])
    os.close(closed)
    with pytest.raises(StackError, match="Bad file descriptor$") as caught:
        load_key(f"fd:{closed}", SIZE, Path())
    assert caught.value.errno == errno.EBADF


def test_random_keys_have_the_size_and_differ() -> None:
    first, second = load_key("random", 64, Path()), load_key("random", 64, Path())
    assert len(first) == len(second) == 64
    assert first != second
    assert first[:32] != first[32:]


def test_a_key_written_out_is_refused() -> None:
    with pytest.raises(StackError, match="^a key is not written out here"):
        load_key(HEX.decode(), SIZE, Path())


@pytest.fixture
def keyring() -> Iterator[Keyring]:
    ring = Keyring()
    yield ring
    ring.revoke_all()


@pytest.mark.parametrize("data", [KEY, HEX], ids=["raw", "hex"])
def test_a_user_key_of_the_keyring_is_read(keyring: Keyring, data: bytes) -> None:
    keyring.add(b"user", b"fusedm-test:a", data)
    assert load_key("keyring:fusedm-test:a", SIZE, Path()) == bytearray(KEY)


def test_a_user_key_of_the_wrong_size_is_refused(keyring: Keyring) -> None:
    keyring.add(b"user", b"fusedm-test:b", b"0" * 300)
    with pytest.raises(CryptoError, match="it holds more than 66 bytes"):
        load_key("keyring:fusedm-test:b", SIZE, Path())


def test_a_logon_key_is_refused_with_the_reason(keyring: Keyring) -> None:
    keyring.add(b"logon", b"fusedm-test:c", KEY)
    with pytest.raises(StackError) as caught:
        load_key("keyring:fusedm-test:c", SIZE, Path())
    assert str(caught.value) == (
        "key source 'keyring:fusedm-test:c': it is a logon key, which user space cannot read: "
        "add it as a user key"
    )
    assert caught.value.errno == errno.EPERM


def test_a_missing_user_key_is_refused(keyring: Keyring) -> None:
    keyring.add(b"user", b"fusedm-test:d", KEY)
    with pytest.raises(StackError, match="no user key of that description") as caught:
        load_key("keyring:fusedm-test:none", SIZE, Path())
    assert caught.value.errno == errno.ENOKEY


def test_what_else_the_kernel_refuses_is_told_in_its_word(keyring: Keyring) -> None:
    keyring.add(b"user", b"fusedm-test:e", KEY)
    with pytest.raises(StackError, match="Invalid argument$") as caught:
        load_key(f"keyring:{'x' * 5000}", SIZE, Path())
    assert caught.value.errno == errno.EINVAL


def test_a_machine_without_known_syscalls_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "pdp11")
    with pytest.raises(StackError, match="the keyring cannot be read on pdp11$"):
        load_key("keyring:x", SIZE, Path())

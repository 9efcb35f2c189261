"""The demo's proof can tell ciphertext from plaintext, and the right key from another."""

import pytest

from fusedm.cli.demo_files import KNOWN_PLAINTEXT
from fusedm.cli.demo_proof import CHUNK, find, write_key


@pytest.mark.parametrize("offset", [0, 1, CHUNK - 3, CHUNK, 2 * CHUNK + 17])
def test_bytes_are_found_wherever_they_lie(tmp_path, offset):
    path = tmp_path / "disk"
    path.write_bytes(bytes(offset) + KNOWN_PLAINTEXT + bytes(5))
    assert find(path, KNOWN_PLAINTEXT) == offset


def test_what_is_not_there_is_not_found(tmp_path):
    path = tmp_path / "disk"
    path.write_bytes(KNOWN_PLAINTEXT[:-1] * 3 + bytes(CHUNK))
    assert find(path, KNOWN_PLAINTEXT) is None


def test_nothing_is_found_in_an_empty_file(tmp_path):
    path = tmp_path / "disk"
    path.touch()
    assert find(path, b"x") is None


def test_a_key_is_written_for_its_owner_only_and_never_over_another(tmp_path):
    path = tmp_path / "key"
    write_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(path.read_bytes()) == 64
    with pytest.raises(FileExistsError):
        write_key(path)

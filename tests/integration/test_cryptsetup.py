"""cryptsetup encrypts a file by itself, without device mapper; fusedm must read what it wrote."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from fusedm.block.errors import StackError
from fusedm.crypto import make_sector_cipher, parse_cipher_spec
from fusedm.host.luks import unlock
from tests.helpers.builders import pattern

PASSPHRASE = b"open sesame"
SIZE = 64 << 10
#: cryptsetup moves the data up by half of this, to make room for the header.
ROOM = 32 << 20

CIPHERS = [
    ("aes-xts-plain64", 512, 512),
    ("aes-xts-plain64", 512, 4096),
    ("aes-xts-plain64", 256, 512),
    ("aes-xts-plain", 512, 4096),
    ("aes-xts-plain64be", 512, 512),
    ("aes-xts-benbi", 512, 4096),
    ("aes-xts-essiv:sha256", 256, 512),
    ("aes-cbc-essiv:sha256", 256, 4096),
    ("aes-cbc-plain64be", 128, 512),
    ("aes-cbc-benbi", 256, 512),
    ("aes-cbc-eboiv", 256, 512),
    ("aes-cbc-eboiv", 256, 4096),
    ("aes-cbc-null", 192, 512),
    ("aes-ecb", 256, 4096),
]


def cryptsetup(*words: object) -> None:
    environ = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    done = subprocess.run(
        ["cryptsetup", "--batch-mode", "--key-file", "-", *map(str, words)],
        input=PASSPHRASE, capture_output=True, env=environ, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def encrypted(path: Path, data: bytes, cipher: str, bits: int, size: int) -> Path:
    """A LUKS2 volume of data, encrypted by cryptsetup."""
    path.write_bytes(data)
    os.truncate(path, len(data) + ROOM)
    cryptsetup(
        "reencrypt", "--encrypt", "--type", "luks2", "--force-offline-reencrypt",
        "--reduce-device-size", f"{ROOM >> 20}M", "--pbkdf", "pbkdf2",
        "--pbkdf-force-iterations", 1000, "--sector-size", size, "--cipher", cipher,
        "--key-size", bits, path,
    )  # fmt: skip
    return path


@pytest.mark.parametrize(("cipher", "bits", "size"), CIPHERS)
def test_what_cryptsetup_encrypts_is_read(tmp_path: Path, cipher: str, bits: int, size: int):
    text = pattern(SIZE)
    volume = encrypted(tmp_path / "volume", bytes(text), cipher, bits, size)
    payload = unlock(volume, PASSPHRASE)
    assert (payload.cipher, payload.sector_size, 8 * len(payload.key)) == (cipher, size, bits)
    with volume.open("rb") as file:
        file.seek(payload.start_sector * 512)
        data = memoryview(bytearray(file.read(SIZE)))
    spec = parse_cipher_spec(payload.cipher)
    made = make_sector_cipher(spec, memoryview(payload.key), payload.sector_size, False)
    made.decrypt(payload.iv_offset, data, data)
    assert data == text


def test_a_wrong_passphrase_is_eperm(tmp_path: Path):
    volume = encrypted(tmp_path / "volume", bytes(4096), "aes-xts-plain64", 512, 512)
    with pytest.raises(StackError, match="No key available with this passphrase") as caught:
        unlock(volume, b"wrong")
    assert caught.value.errno == 1


def test_a_volume_cut_behind_its_header_has_no_payload(tmp_path: Path):
    volume = encrypted(tmp_path / "volume", bytes(4096), "aes-xts-plain64", 512, 512)
    os.truncate(volume, 16 << 20)
    with pytest.raises(StackError, match="there is no room for a payload behind the header"):
        unlock(volume, PASSPHRASE)


def test_no_argument_of_a_process_is_a_passphrase_or_a_key(tmp_path: Path, monkeypatch):
    volume = encrypted(tmp_path / "volume", bytes(4096), "aes-xts-plain64", 512, 512)
    tool, log = tmp_path / "bin" / "cryptsetup", tmp_path / "log"
    tool.parent.mkdir()
    real = shutil.which("cryptsetup", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    tool.write_text(f'#!/bin/sh\necho "$@" >>{log}\nenv >>{log}\nexec {real} "$@"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    payload = unlock(volume, PASSPHRASE)
    said = log.read_text()
    assert "luksDump" in said
    assert payload.key.hex() not in said
    assert PASSPHRASE.decode() not in said

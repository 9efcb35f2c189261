"""cryptsetup encrypts a file by itself, without device mapper; fusedm must read what it wrote."""

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from fusedm.block.errors import StackError
from fusedm.crypto import make_sector_cipher, parse_cipher_spec
from fusedm.host.luks import read_volume, unlock
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
    found = read_volume(volume)
    key = unlock(found, PASSPHRASE)
    assert (found.cipher, found.sector_size, 8 * len(key)) == (cipher, size, bits)
    with volume.open("rb") as file:
        file.seek(found.offset)
        data = memoryview(bytearray(file.read(SIZE)))
    spec = parse_cipher_spec(found.cipher)
    made = make_sector_cipher(spec, memoryview(key), found.sector_size, False)
    made.decrypt(found.iv_offset, data, data)
    assert data == text


def test_a_wrong_passphrase_is_eperm(tmp_path: Path):
    volume = encrypted(tmp_path / "volume", bytes(4096), "aes-xts-plain64", 512, 512)
    with pytest.raises(StackError, match="No key available with this passphrase") as caught:
        unlock(read_volume(volume), b"wrong")
    assert caught.value.errno == 1


def test_a_volume_cut_behind_its_header_has_no_payload(tmp_path: Path):
    volume = encrypted(tmp_path / "volume", bytes(4096), "aes-xts-plain64", 512, 512)
    os.truncate(volume, 16 << 20)
    with pytest.raises(StackError, match="there is no room for a payload behind the header"):
        read_volume(volume).sectors(volume, 16 << 20, is_apart=False)


def test_no_argument_of_a_process_is_a_passphrase_or_a_key(tmp_path: Path, monkeypatch):
    volume = encrypted(tmp_path / "volume", bytes(4096), "aes-xts-plain64", 512, 512)
    tool, log = tmp_path / "bin" / "cryptsetup", tmp_path / "log"
    tool.parent.mkdir()
    real = shutil.which("cryptsetup", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    tool.write_text(f'#!/bin/sh\necho "$@" >>{log}\nenv >>{log}\nexec {real} "$@"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    key = unlock(read_volume(volume), PASSPHRASE, key_slot=0)
    said = log.read_text()
    assert "luksDump" in said
    assert key.hex() not in said
    assert PASSPHRASE.decode() not in said


def formatted(volume: Path, *options: object) -> Path:
    """A volume of 20 MiB, empty."""
    volume.touch()
    os.truncate(volume, 20 << 20)
    cryptsetup("luksFormat", "--pbkdf-force-iterations", 1000, *options, volume)
    return volume


@pytest.mark.parametrize("type_", ["luks1", "luks2"])
def test_a_header_alone_has_its_payload_at_byte_0(tmp_path: Path, type_: str):
    header, data = tmp_path / "header", tmp_path / "data"
    kdf = () if type_ == "luks1" else ("--pbkdf", "pbkdf2")
    formatted(data, "--type", type_, *kdf, "--header", header)
    found = read_volume(header)
    assert len(unlock(found, PASSPHRASE)) == 64
    assert found.sectors(data, 20 << 20, is_apart=True) == (0, 20 << 11)
    with pytest.raises(StackError, match="would begin at byte 0, in its header of"):
        found.sectors(header, header.stat().st_size, is_apart=False)


def test_a_key_slot_that_is_named_is_the_one_that_counts(tmp_path: Path):
    found = read_volume(
        formatted(tmp_path / "v", "--type", "luks2", "--pbkdf", "pbkdf2", "--key-slot", 3)
    )
    assert len(unlock(found, PASSPHRASE, key_slot=3)) == 64
    with pytest.raises(StackError, match="cryptsetup: "):
        unlock(found, PASSPHRASE, key_slot=0)


def test_the_second_header_is_read_where_the_first_is_gone(tmp_path: Path):
    volume = formatted(tmp_path / "v", "--type", "luks2", "--pbkdf", "pbkdf2")
    before = read_volume(volume)
    with volume.open("r+b") as file:
        file.write(bytes(4096))
    assert read_volume(volume) == before
    assert len(unlock(before, PASSPHRASE)) == 64


def test_a_mode_with_a_digest_it_does_not_need_is_opened(tmp_path: Path):
    volume = formatted(tmp_path / "v", "--type", "luks1")
    key = unlock(read_volume(volume), PASSPHRASE)
    with volume.open("r+b") as file:
        file.seek(40)
        file.write(b"xts-plain64:sha256")
    found = read_volume(volume)
    assert found.cipher == "aes-xts-plain64"
    assert unlock(found, PASSPHRASE) == key
    with pytest.raises(StackError, match="v: cryptsetup: No key available") as caught:
        unlock(found, b"wrong")
    assert caught.value.errno == errno.EPERM

"""LUKS volumes for tests, made by cryptsetup."""

import hashlib
import json
import os
import subprocess
from pathlib import Path

from fusedm.crypto import key_slots, make_sector_cipher, parse_cipher_spec
from fusedm.host.luks import read_volume, unlock

PASSPHRASE = b"open sesame"
TOOLS_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
#: A key derivation that takes no time.
QUICK = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")
HDR = 16384


def formatted(path: Path, type_: str, *options: str) -> Path:
    """A volume of 20 MiB, without data."""
    path.touch()
    os.truncate(path, 20 << 20)
    subprocess.run(
        ["cryptsetup", "luksFormat", "-q", "--key-file", "-", "--type", type_, *options, path],
        input=PASSPHRASE, check=True, capture_output=True, env={**os.environ, "PATH": TOOLS_PATH},
    )  # fmt: skip
    return path


def under_adiantum(path: Path) -> tuple[Path, bytearray]:
    """A volume of LUKS2 that is under Adiantum, as is its key slot; and its key.

    The kernel's Adiantum is not needed to make it: one under AES is written anew.
    """
    formatted(
        path, "luks2", *QUICK, "--key-size", "256", "--luks2-metadata-size", "16k",
        "--sector-size", "4096",
    )  # fmt: skip
    volume = read_volume(path)
    key = unlock(volume, PASSPHRASE)
    (slot,) = key_slots(volume.head, volume.cipher, volume.metadata)
    derived = hashlib.pbkdf2_hmac(
        "sha256", PASSPHRASE, slot.derivation.salt, slot.derivation.iterations, 32
    )
    with path.open("r+b") as file:
        file.seek(slot.offset)
        area = memoryview(bytearray(file.read(slot.size)))
        for cipher, way in (
            (slot.cipher, "decrypt"),
            ("xchacha12,aes-adiantum-plain64", "encrypt"),
        ):
            made = make_sector_cipher(parse_cipher_spec(cipher), memoryview(derived), 512, False)
            getattr(made, way)(0, area, area)
        file.seek(slot.offset)
        file.write(area)
        for at in (0, HDR):
            file.seek(at)
            header = bytearray(file.read(HDR))
            text = header[4096:].rstrip(b"\0").decode()
            text = text.replace('"aes-xts-plain64"', '"xchacha12,aes-adiantum-plain64"')
            assert json.loads(text)["keyslots"]["0"]["area"]["encryption"].startswith("xchacha12")
            header[4096:] = text.encode().ljust(HDR - 4096, b"\0")
            header[0x1C0:0x200] = bytes(64)
            header[0x1C0:0x1E0] = hashlib.sha256(header).digest()
            file.seek(at)
            file.write(header)
    return path, key

"""Key slots opened here have the keys that cryptsetup tells, and those it cannot open too."""

import errno
import shutil
from pathlib import Path

import pytest

from fusedm.block.errors import CryptoError
from fusedm.crypto import key_slots, open_key_slot
from fusedm.host.luks import Volume, read_volume, unlock
from tests.helpers.luks_volumes import PASSPHRASE, QUICK, TOOLS_PATH, formatted, under_adiantum

pytestmark = pytest.mark.skipif(
    shutil.which("cryptsetup", path=TOOLS_PATH) is None,
    reason="CRYPTSETUP TESTS: SKIPPED - cryptsetup is not installed",
)

ARGON = ("--pbkdf-force-iterations", "4", "--pbkdf-memory", "64", "--pbkdf-parallel", "2")
VOLUMES = [
    ("luks1", *QUICK[2:]),
    (
        "luks1",
        *QUICK[2:],
        "--hash",
        "sha512",
        "--key-size",
        "256",
        "--cipher",
        "aes-cbc-essiv:sha256",
    ),
    ("luks2", *QUICK),
    ("luks2", *QUICK, "--hash", "sha1", "--key-size", "256"),
    ("luks2", "--pbkdf", "argon2id", *ARGON),
    ("luks2", "--pbkdf", "argon2i", *ARGON, "--key-slot", "5"),
]


def keys_in(volume: Volume, passphrase: bytes = PASSPHRASE) -> list[bytearray | None]:
    found = []
    for slot in key_slots(volume.head, volume.cipher, volume.metadata):
        with volume.path.open("rb") as file:
            file.seek(slot.offset)
            material = bytearray(file.read(slot.size))
        found.append(open_key_slot(slot, material, passphrase))
        assert not any(material)
    return found


@pytest.mark.parametrize("options", VOLUMES, ids=" ".join)
def test_the_key_is_the_one_that_cryptsetup_tells(tmp_path: Path, options: tuple[str, ...]):
    volume = read_volume(formatted(tmp_path / "v", *options))
    assert keys_in(volume) == [unlock(volume, PASSPHRASE)]
    assert keys_in(volume, b"wrong") == [None]


def test_slots_under_adiantum_are_opened(tmp_path: Path):
    path, key = under_adiantum(tmp_path / "v")
    volume = read_volume(path)
    assert (volume.cipher, volume.slot_cipher) == ("xchacha12,aes-adiantum-plain64",) * 2
    assert keys_in(volume) == [key]


@pytest.mark.parametrize(
    ("part", "changes", "says"),
    [
        ("area", {"encryption": "serpent-xts-plain64"}, "cipher serpent is run by the kernel only"),
        ("kdf", {"type": "scrypt"}, "key derivation 'scrypt' is not known here"),
        ("kdf", {"hash": "tiger"}, "digest 'tiger' is not known here"),
        ("af", {"hash": "tiger"}, "digest 'tiger' is not known here"),
    ],
)
def test_what_is_not_known_is_refused_by_its_name(tmp_path: Path, part, changes, says):
    volume = read_volume(formatted(tmp_path / "v", "luks2", *QUICK))
    volume.metadata["keyslots"]["0"][part].update(changes)
    with pytest.raises(CryptoError, match=says) as caught:
        keys_in(volume)
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize("metadata", [{"digests": {}}, {"digests": 5}, {"digests": {"0": {}}}])
def test_slots_that_are_not_understood_are_refused(metadata):
    with pytest.raises(CryptoError, match="the key slots of the header are not understood"):
        key_slots(b"", "", metadata)

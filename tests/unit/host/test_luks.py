"""What is read from the headers of LUKS volumes, and what is refused."""

import copy
import errno
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from fusedm.block.errors import StackError, UsageError
from fusedm.host.luks import Volume, read_volume, unlock, volume_2

MIB = 1 << 20
SEGMENT = {
    "type": "crypt",
    "offset": "16777216",
    "size": "dynamic",
    "iv_tweak": "0",
    "encryption": "aes-xts-plain64",
    "sector_size": 4096,
}
METADATA = {
    "keyslots": {"0": {"area": {"encryption": "aes-xts-plain64"}}},
    "segments": {"0": SEGMENT},
    "config": {"json_size": "12288", "keyslots_size": "16744448"},
}
RAW = bytes(range(1, 65))
DATA = Path("vol")


def changed(**changes: object) -> dict[str, object]:
    metadata = copy.deepcopy(METADATA)
    metadata["segments"]["0"].update(changes)  # type: ignore[attr-defined]  # it is a dict
    return metadata


def volume(**changes: object) -> Volume:
    parts = {
        "path": DATA, "version": 2, "uuid": "u", "cipher": "aes-xts-plain64", "offset": 16 * MIB,
        "size": None, "length": 16 * MIB, "slot_cipher": "aes-xts-plain64",
    }  # fmt: skip
    return Volume(**(parts | changes))  # type: ignore[arg-type]  # as the class has them


def luks1(
    mode: bytes = b"xts-plain64",
    payload: int = 4096,
    first_slot: int = 8,
    stripes: int = 4000,
    key_bytes: int = 64,
    cipher: bytes = b"aes",
) -> bytes:
    """A header of LUKS1 without a key in it."""
    front = struct.pack(
        ">6sH32s32s32sII20s32sI40s", b"LUKS\xba\xbe", 1, cipher, mode, b"sha256", payload,
        key_bytes, b"", b"", 1000, b"01234567-89ab",
    )  # fmt: skip
    return front + b"".join(
        struct.pack(">II32sII", 0xDEAD, 0, b"", first_slot + 504 * number, stripes)
        for number in range(8)
    )


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "f"
    path.write_bytes(data)
    return path


def refusal(call) -> StackError:
    with pytest.raises(StackError) as caught:
        call()
    return caught.value


def test_metadata_tell_where_the_payload_is_and_how_long_the_header():
    assert volume_2(DATA, "u", METADATA) == volume(sector_size=4096, metadata=METADATA)


def test_a_volume_may_allow_discards_have_a_size_and_another_first_iv():
    metadata = changed(size="8192", iv_tweak="8")
    metadata["config"]["flags"] = ["allow-discards"]  # type: ignore[index]  # it is a dict
    found = volume_2(DATA, "u", metadata)
    assert (found.allows_discards, found.size, found.iv_offset) == (True, 8192, 8)


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        (changed(type="linear"), "its segment is 'linear', only 'crypt' can be opened"),
        (changed(type="hw-opal-crypt"), "its segment is 'hw-opal-crypt'"),
        (
            changed(integrity={"type": "hmac(sha256)", "journal_encryption": "none"}),
            "it has integrity (hmac(sha256)), authenticated encryption is not known here",
        ),
        (
            METADATA | {"segments": {"0": SEGMENT, "1": SEGMENT}},
            "it has 2 segments, only volumes with one",
        ),
        (METADATA | {"segments": {"1": SEGMENT}}, "it has 1 segments"),
        (METADATA | {"segments": {}}, "it has 0 segments"),
        (
            METADATA | {"config": {"requirements": {"mandatory": ["online-reencrypt-v2"]}}},
            "it needs online-reencrypt-v2: is it being encrypted anew?",
        ),
    ],
)
def test_what_is_not_one_plain_segment_is_refused_with_a_sentence(metadata, says):
    error = refusal(lambda: volume_2(DATA, "u", metadata))
    assert str(error).startswith("vol: ")
    assert says in str(error)
    assert error.errno == errno.EINVAL


def test_a_payload_is_all_that_follows_or_as_long_as_the_header_says():
    assert volume().sectors(DATA, 20 * MIB, False) == (32768, 8192)
    assert volume(sector_size=4096).sectors(DATA, 20 * MIB + 4095, False) == (32768, 8192)
    assert volume(size=MIB).sectors(DATA, 20 * MIB, False) == (32768, 2048)


def test_a_header_apart_may_have_its_payload_anywhere(tmp_path: Path):
    data = written(tmp_path, bytes(8192))
    assert volume(offset=0).sectors(data, 8192, True) == (0, 16)
    assert volume(offset=512).sectors(data, 8192, True) == (1, 15)


@pytest.mark.parametrize(
    ("changes", "size", "says"),
    [
        ({"offset": 0}, 20 * MIB, "would begin at byte 0, in its header of 16777216: a header"),
        ({"offset": 16 * MIB - 512}, 20 * MIB, "would begin at byte 16776704, in its header"),
        ({"offset": 16 * MIB + 1}, 20 * MIB, "begins at byte 16777217, within a sector"),
        ({}, 16 * MIB, "in 16777216 bytes there is no room for a payload behind the header"),
        ({}, 4096, "in 4096 bytes there is no room"),
        ({}, 0, "in 0 bytes there is no room"),
        ({"sector_size": 4096}, 16 * MIB + 4095, "there is no room"),
        ({"size": 0}, 20 * MIB, "there is no room"),
        ({"size": 5 * MIB}, 20 * MIB, "its payload ends behind the 20971520 bytes of the file"),
    ],
)
def test_a_payload_over_the_header_or_behind_the_end_is_refused(changes, size, says):
    error = refusal(lambda: volume(**changes).sectors(DATA, size, False))
    assert str(error).startswith("vol: ")
    assert says in str(error)
    assert error.errno == errno.EINVAL


def test_a_header_given_as_its_own_data_by_another_path_is_refused(tmp_path: Path):
    data = written(tmp_path, luks1() + bytes(MIB))
    error = refusal(lambda: volume(offset=0).sectors(data, MIB, True))
    assert "at byte 0, where its payload would begin, it has a LUKS header" in str(error)


def test_a_payload_is_a_line_of_crypt():
    key, line = bytearray(RAW), f"0 8192 crypt aes-xts-plain64 {RAW.hex()} 0 d0 32768"
    assert volume().line(key, "d0", 32768, 8192, False) == line
    large = volume(sector_size=4096)
    assert large.line(key, "d0", 32768, 8192, False) == f"{line} 1 sector_size:4096"
    assert volume().line(key, "d0", 32768, 8192, True) == f"{line} 1 allow_discards"
    both = replace(large, allows_discards=True).line(key, "d0", 32768, 8192, False)
    assert both == f"{line} 2 allow_discards sector_size:4096"


def test_a_header_of_luks1_is_read_here(tmp_path: Path):
    found = read_volume(written(tmp_path, luks1()))
    assert (found.version, found.cipher, found.uuid) == (1, "aes-xts-plain64", "01234567-89ab")
    assert (found.offset, found.length) == (4096 * 512, (8 + 504 * 7) * 512 + 64 * 4000)
    assert found.size is None
    assert not found.respelt


@pytest.mark.parametrize(
    ("cipher", "mode", "usual"),
    [
        (b"aes", b"xts-plain64:sha256", "aes-xts-plain64"),
        (b"aes", b"cbc-plain:sha1", "aes-cbc-plain"),
        (b"aes", b"cbc-essiv:sha256", "aes-cbc-essiv:sha256"),
        (b"aes", b"plain", "aes-plain"),
        (b"serpent", b"xts-plain64", "serpent-xts-plain64"),
        (b"aes", b"\xff", "aes-\\xff"),
    ],
)
def test_a_digest_that_an_iv_does_not_need_is_passed_over(tmp_path: Path, cipher, mode, usual):
    assert read_volume(written(tmp_path, luks1(mode, cipher=cipher))).cipher == usual


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "it is not a LUKS volume of version 1 or 2"),
        (b"LUKS", "it is not a LUKS volume"),
        (b"LUKS\xba\xbe\0\3", "it is not a LUKS volume"),
        (b"\0" * 512, "it is not a LUKS volume"),
        (b"\0" * 0x8000 + b"SKUL\xba\xbe\0\3" + bytes(512), "it is not a LUKS volume"),
        (luks1()[:500], "its header ends after 500 bytes, LUKS1 has 592"),
        (luks1(first_slot=1 << 31), "its key slots would end at byte 1099513"),
        (luks1(stripes=1 << 31), "the header is damaged"),
    ],
)
def test_what_is_no_volume_is_refused_before_cryptsetup_is_asked(
    tmp_path: Path, monkeypatch, data: bytes, says: str
):
    monkeypatch.setattr("fusedm.host.luks.tool_path", lambda environ: str(tmp_path))
    error = refusal(lambda: read_volume(written(tmp_path, data)))
    assert says in str(error)
    assert error.errno == errno.EINVAL


def test_a_file_that_cannot_be_read_gives_the_hosts_errno(tmp_path: Path):
    error = refusal(lambda: read_volume(tmp_path / "none"))
    assert str(error).endswith("No such file or directory")
    assert error.errno == errno.ENOENT


@pytest.mark.parametrize("place", [0, 0x4000, 0x400000])
def test_without_cryptsetup_it_says_what_is_missing(tmp_path: Path, monkeypatch, place: int):
    magic = b"SKUL" if place else b"LUKS"
    path = written(tmp_path, bytes(place) + magic + b"\xba\xbe\0\2" + bytes(512))
    monkeypatch.setattr("fusedm.host.luks.tool_path", lambda environ: str(tmp_path))
    with pytest.raises(UsageError, match="^cryptsetup is not installed"):
        read_volume(path)


def in_the_place_of_cryptsetup(tmp_path: Path, monkeypatch, script: str) -> None:
    tool = tmp_path / "cryptsetup"
    tool.write_text(f"#!/bin/sh\ncat >/dev/null\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setattr("fusedm.host.luks.tool_path", lambda environ: f"{tmp_path}:/usr/bin:/bin")


@pytest.mark.parametrize(
    ("script", "says", "number"),
    [
        ("echo 'it is broken' >&2; exit 1", "f: cryptsetup: it is broken", errno.EINVAL),
        ("exit 2", "f: cryptsetup: exit code 2", errno.EPERM),
        ("echo Cipher name: aes", "cryptsetup has not told the volume key", errno.EIO),
        (
            "echo 'Cannot initialize device-mapper. Is dm_mod kernel module loaded?' >&2; exit 1",
            "f: its key slots are under serpent-xts-plain64, which cryptsetup cannot do here",
            errno.EOPNOTSUPP,
        ),
    ],
)
def test_what_cryptsetup_refuses_is_told_with_the_file_and_the_cipher(
    tmp_path: Path, monkeypatch, script, says, number
):
    path = written(tmp_path, luks1(cipher=b"serpent"))
    in_the_place_of_cryptsetup(tmp_path, monkeypatch, script)
    error = refusal(lambda: unlock(read_volume(path), b"x"))
    assert str(error).endswith(says)
    assert error.errno == number


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"config": {}, "segments": {"0": 1}}'])
def test_metadata_that_are_not_understood_are_refused(tmp_path: Path, monkeypatch, text: str):
    path = written(tmp_path, b"LUKS\xba\xbe\0\2" + bytes(512))
    in_the_place_of_cryptsetup(tmp_path, monkeypatch, f"echo '{text}'")
    error = refusal(lambda: read_volume(path))
    assert str(error).endswith("f: its metadata are not understood")

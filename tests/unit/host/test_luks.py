"""What is read from the headers of LUKS volumes, and what is refused."""

import copy
import errno
from pathlib import Path

import pytest

from fusedm.block.errors import StackError, UsageError
from fusedm.host.luks import Payload, payload_of, unlock

SEGMENT = {
    "type": "crypt",
    "offset": "16777216",
    "size": "dynamic",
    "iv_tweak": "0",
    "encryption": "aes-xts-plain64",
    "sector_size": 4096,
}
METADATA = {"segments": {"0": SEGMENT}, "config": {"json_size": "12288"}}
RAW = bytes(range(1, 65))


def changed(**changes: object) -> dict[str, object]:
    metadata = copy.deepcopy(METADATA)
    metadata["segments"]["0"].update(changes)  # type: ignore[attr-defined]  # it is a dict
    return metadata


def payload(**changes: object) -> Payload:
    parts = {
        "cipher": "aes-xts-plain64", "start_sector": 32768, "sector_count": 8192,
        "sector_size": 512, "iv_offset": 0, "allows_discards": False, "key": bytearray(RAW),
    }  # fmt: skip
    return Payload(**(parts | changes))  # type: ignore[arg-type]  # as the class has them


def test_the_one_segment_is_found():
    assert payload_of("f", METADATA) == {**SEGMENT, "discards": False}


def test_a_volume_may_allow_discards():
    metadata = {**METADATA, "config": {"flags": ["allow-discards"]}}
    assert payload_of("f", metadata)["discards"] is True


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        (changed(type="linear"), "its segment is 'linear', only 'crypt' can be opened"),
        (changed(type="hw-opal-crypt"), "its segment is 'hw-opal-crypt'"),
        (
            changed(integrity={"type": "hmac(sha256)", "journal_encryption": "none"}),
            "it has integrity (hmac(sha256)), authenticated encryption is not known here",
        ),
        ({"segments": {"0": SEGMENT, "1": SEGMENT}}, "it has 2 segments, only volumes with one"),
        ({"segments": {"1": SEGMENT}}, "it has 1 segments"),
        ({}, "it has 0 segments"),
        (
            {**METADATA, "config": {"requirements": {"mandatory": ["online-reencrypt-v2"]}}},
            "it needs online-reencrypt-v2: is it being encrypted anew?",
        ),
    ],
)
def test_what_is_not_one_plain_segment_is_refused_with_a_sentence(metadata, says):
    with pytest.raises(StackError) as caught:
        payload_of("vol", metadata)
    assert str(caught.value).startswith("vol: ")
    assert says in str(caught.value)
    assert caught.value.errno == errno.EINVAL


def test_a_payload_is_a_line_of_crypt():
    line = f"0 8192 crypt aes-xts-plain64 {RAW.hex()} 0 d0 32768"
    assert payload().table("d0") == line
    assert payload(sector_size=4096).table("d0") == f"{line} 1 sector_size:4096"
    assert payload().table("d0", allow_discards=True) == f"{line} 1 allow_discards"
    both = payload(sector_size=4096, allows_discards=True).table("d0")
    assert both == f"{line} 2 allow_discards sector_size:4096"


def test_a_payload_shows_no_key_and_can_forget_it():
    it = payload()
    assert "key" not in repr(it)
    it.wipe()
    assert it.key == bytes(64)


@pytest.mark.parametrize("data", [b"", b"LUKS", b"LUKS\xba\xbe\0\3", b"\0" * 512])
def test_what_is_no_volume_is_refused_before_cryptsetup_is_asked(tmp_path: Path, data: bytes):
    (tmp_path / "f").write_bytes(data)
    with pytest.raises(StackError, match="it is not a LUKS volume of version 1 or 2$") as caught:
        unlock(tmp_path / "f", b"x")
    assert caught.value.errno == errno.EINVAL


def test_a_file_that_cannot_be_read_gives_the_hosts_errno(tmp_path: Path):
    with pytest.raises(StackError, match="No such file or directory$") as caught:
        unlock(tmp_path / "none", b"x")
    assert caught.value.errno == errno.ENOENT


def test_without_cryptsetup_it_says_what_is_missing(tmp_path: Path, monkeypatch):
    (tmp_path / "f").write_bytes(b"LUKS\xba\xbe\0\2" + bytes(512))
    monkeypatch.setattr("fusedm.host.luks.tool_path", lambda environ: str(tmp_path))
    with pytest.raises(UsageError, match="^cryptsetup is not installed"):
        unlock(tmp_path / "f", b"x")


def test_what_cryptsetup_refuses_is_told_in_its_words(tmp_path: Path, monkeypatch):
    tool = tmp_path / "cryptsetup"
    tool.write_text("#!/bin/sh\ncat >/dev/null\necho 'it is broken' >&2\nexit 1\n")
    tool.chmod(0o755)
    (tmp_path / "f").write_bytes(b"LUKS\xba\xbe\0\1" + bytes(512))
    monkeypatch.setattr("fusedm.host.luks.tool_path", lambda environ: f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(StackError, match="f: cryptsetup: it is broken$") as caught:
        unlock(tmp_path / "f", b"x")
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ("Cipher name: aes", "cryptsetup has not told the volume key"),
        ("MK dump: 01 02", "cryptsetup has not told where the payload is"),
    ],
)
def test_words_of_cryptsetup_that_are_not_understood_are_refused(
    tmp_path: Path, monkeypatch, said, says
):
    tool = tmp_path / "cryptsetup"
    tool.write_text(f"#!/bin/sh\ncat >/dev/null\necho '{said}'\n")
    tool.chmod(0o755)
    (tmp_path / "f").write_bytes(b"LUKS\xba\xbe\0\1" + bytes(512))
    monkeypatch.setattr("fusedm.host.luks.tool_path", lambda environ: f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(StackError, match=says) as caught:
        unlock(tmp_path / "f", b"x")
    assert caught.value.errno == errno.EIO

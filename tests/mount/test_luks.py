"""LUKS volumes through a mount: QEMU and cryptsetup read what fusedm writes, and the reverse."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusedm.host.luks import read_volume
from tests.helpers import reference_dm_crypt
from tests.helpers.builders import pattern
from tests.helpers.cli import Place, place
from tests.helpers.luks_volumes import under_adiantum
from tests.helpers.nightly import NIGHTLY, nightly_but

PASSPHRASE = "open sesame"
DATA = bytes(pattern(1 << 20))
TOOLS_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"

pytestmark = pytest.mark.fuse
with_cryptsetup = pytest.mark.skipif(
    shutil.which("cryptsetup", path=TOOLS_PATH) is None,
    reason="CRYPTSETUP TESTS: SKIPPED - cryptsetup is not installed",
)
with_qemu = pytest.mark.skipif(
    shutil.which("qemu-img") is None or shutil.which("cryptsetup", path=TOOLS_PATH) is None,
    reason="QEMU TESTS: SKIPPED - qemu-img or cryptsetup is not installed",
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(tmp_path_factory.mktemp("luks")) as it:
        (it.folder / "pass").write_text(PASSPHRASE)
        it.up()
        yield it


@pytest.fixture(autouse=True)
def left_as_it_was(stack: Place) -> Iterator[None]:
    before = stack.state()
    yield
    assert stack.state() == before


def tool(*words: object) -> None:
    done = subprocess.run(
        [str(word) for word in words], env={**os.environ, "PATH": TOOLS_PATH},
        input=PASSPHRASE, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def qemu(stack: Place, verb: str, *words: object) -> None:
    tool("qemu-img", verb, "--object", f"secret,id=s,file={stack.folder / 'pass'}", *words)


def qemu_volume(stack: Place, name: str, *options: str) -> Path:
    volume = stack.folder / name
    told = ",".join(["key-secret=s", "iter-time=10", *options])
    # It measures the time of a processor, and gives up where that was too little to be told.
    for _ in range(10):
        try:
            qemu(stack, "create", "-q", "-f", "luks", "-o", told, volume, "2M")
            break
        except AssertionError as error:
            if "accurate CPU usage" not in str(error):
                raise
    return volume


def opened(stack: Place, volume: Path, *options: str) -> Path:
    stack.ok("luks", "open", volume, "secret", "--key-file", stack.folder / "pass", *options)
    return stack.mount_point / "mapper/secret"


def closed(stack: Place) -> None:
    stack.ok("luks", "close", "secret")


def write_at(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b", buffering=0) as file:
        file.seek(offset)
        assert file.write(data) == len(data)


QEMU_OPTIONS = [
    (),
    pytest.param(("cipher-alg=aes-128",), marks=NIGHTLY),
    ("cipher-alg=aes-256", "cipher-mode=cbc", "ivgen-alg=essiv", "ivgen-hash-alg=sha256"),
    pytest.param(("cipher-alg=aes-128", "cipher-mode=cbc", "ivgen-alg=plain64"), marks=NIGHTLY),
]


@with_qemu
@pytest.mark.parametrize("options", QEMU_OPTIONS, ids=["xts", "xts-128", "essiv", "cbc-128"])
def test_qemu_reads_what_fusedm_writes_and_the_reverse(stack: Place, options: tuple[str, ...]):
    volume = qemu_volume(stack, "qemu.luks", *options)
    plain, back = stack.folder / "plain", stack.folder / "back"
    plain.write_bytes(DATA + bytes(1 << 20))
    image = f"driver=luks,key-secret=s,file.filename={volume}"
    qemu(stack, "convert", "-n", "--target-image-opts", "-f", "raw", plain, image)
    file = opened(stack, volume)
    assert file.read_bytes() == plain.read_bytes()
    write_at(file, 512, DATA[::-1])
    wanted = file.read_bytes()
    assert wanted[:1024] == DATA[:512] + DATA[:-513:-1]
    closed(stack)
    qemu(stack, "convert", "-O", "raw", "--image-opts", image, back)
    assert back.read_bytes() == wanted
    volume.unlink()


@with_cryptsetup
@pytest.mark.parametrize("size", nightly_but([4096], [512, 4096]))
def test_cryptsetup_reads_what_fusedm_writes_and_the_reverse(stack: Place, size: int):
    volume = stack.folder / "cryptsetup.luks"
    volume.write_bytes(DATA)
    os.truncate(volume, len(DATA) + (32 << 20))
    key = ("--batch-mode", "--key-file", "-")
    tool(
        "cryptsetup", "reencrypt", *key, "--encrypt", "--type", "luks2", "--sector-size", size,
        "--force-offline-reencrypt", "--reduce-device-size", "32M", "--pbkdf", "pbkdf2",
        "--pbkdf-force-iterations", 1000, volume,
    )  # fmt: skip
    file = opened(stack, volume)
    assert file.read_bytes()[: len(DATA)] == DATA
    assert os.stat(file).st_size % size == 0
    write_at(file, 4096, DATA[:8192][::-1])
    closed(stack)
    header = stack.folder / "header"
    tool(
        "cryptsetup", "reencrypt", *key, "--decrypt", "--force-offline-reencrypt",
        "--header", header, volume,
    )  # fmt: skip
    wanted = DATA[:4096] + DATA[:8192][::-1] + DATA[4096 + 8192 :]
    assert volume.read_bytes()[: len(DATA)] == wanted
    volume.unlink()
    header.unlink()


@with_qemu
def test_no_key_is_printed_or_saved(stack: Place):
    volume = qemu_volume(stack, "shown.luks")
    opened(stack, volume)
    for words in (("dm", "table", "secret"), ("save",), ("dm", "show", "secret"), ("status",)):
        assert not has_key(stack.ok(*words))
    closed(stack)


def has_key(text: str) -> bool:
    digits = set("0123456789abcdef")
    words = [word for word in text.split() if len(word) >= 32 and set(word) <= digits]
    return any(word.strip("0") for word in words)


@with_qemu
def test_a_volume_opened_read_only_refuses_writes_and_discards_pass_if_allowed(stack: Place):
    volume = qemu_volume(stack, "ro.luks")
    file = opened(stack, volume, "--read-only")
    with pytest.raises(OSError, match="Read-only file system"):
        file.open("r+b")
    closed(stack)
    opened(stack, volume, "--allow-discards")
    assert stack.ok("dm", "table", "secret").split()[-2:] == ["1", "allow_discards"]
    closed(stack)


@with_qemu
def test_a_passphrase_comes_from_a_descriptor_or_standard_input(stack: Place):
    volume = qemu_volume(stack, "fd.luks")
    with (stack.folder / "pass").open() as file:
        fd = file.fileno()
        stack.ok("luks", "open", volume, "secret", "--key-fd", str(fd), pass_fds=(fd,))
    closed(stack)
    stack.ok("luks", "open", volume, "secret", "--key-file", "-", stdin=PASSPHRASE)
    closed(stack)


@with_qemu
def test_what_is_refused_adds_nothing(stack: Place):
    volume = qemu_volume(stack, "no.luks")
    refused = stack.refused
    said = refused(1, "luks", "open", volume, "secret", "--key-file", "-", stdin="wrong")
    assert said.endswith("No key available with this passphrase.")
    both = ("--key-file", "-", "--key-fd", "0")
    assert "not both" in refused(2, "luks", "open", volume, "secret", *both)
    assert "no terminal to ask at" in refused(2, "luks", "open", volume, "secret")
    assert "No such file" in refused(1, "luks", "open", volume, "secret", "--key-file", "/no/file")
    taken = ("luks", "open", volume, "data", "--key-file", "-")
    assert refused(1, *taken, stdin=PASSPHRASE) == "name 'data' is taken"
    assert "'data' is not a LUKS volume that `luks open`" in refused(1, "luks", "close", "data")


# cryptsetup's volumes, options, and ways to lie.

FAST = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", 1000)


def formatted(stack: Place, name: str, *options: object, size: int = 20 << 20) -> Path:
    volume = stack.folder / name
    volume.touch()
    os.truncate(volume, size)
    tool("cryptsetup", "luksFormat", "-q", "--key-file", "-", *FAST, *options, volume)
    return volume


@with_cryptsetup
def test_cryptsetup_works_on_a_volume_that_is_open_and_a_second_open_is_refused(stack: Place):
    volume = formatted(stack, "open.luks", "--type", "luks2")
    file = opened(stack, volume)
    write_at(file, 0, DATA)
    key = ("--key-file", stack.folder / "pass")
    for words in (
        ("luksDump", volume),
        ("luksAddKey", "-q", *FAST, *key, volume, __file__),
        ("luksHeaderBackup", volume, "--header-backup-file", stack.folder / "backup"),
    ):
        tool("cryptsetup", *words)
    said = stack.refused(1, "luks", "open", volume, "again", "--key-file", "/no/file")
    assert "in use by another store" in said
    closed(stack)
    assert opened(stack, volume, "--key-file", __file__).read_bytes()[: len(DATA)] == DATA
    closed(stack)


@with_cryptsetup
@pytest.mark.parametrize("type_", nightly_but(["luks2"], ["luks1", "luks2"]))
def test_a_header_in_a_file_of_its_own(stack: Place, type_: str):
    header, twin = stack.folder / f"{type_}.header", stack.folder / f"{type_}.twin"
    kdf = FAST[2:] if type_ == "luks1" else FAST
    data = stack.folder / f"{type_}.data"
    data.write_bytes(bytes(4 << 20))
    tool("cryptsetup", "luksFormat", "-q", "--key-file", "-", "--type", type_, *kdf,
         "--header", header, data)  # fmt: skip
    before = header.read_bytes()
    file = opened(stack, data, "--header", str(header))
    assert file.stat().st_size == 4 << 20
    write_at(file, 0, DATA)
    closed(stack)
    os.link(header, twin)
    for words in ((header,), (header, "--header", header), (header, "--header", twin)):
        said = stack.refused(1, "luks", "open", *words[:1], "secret", "-d", "-", *words[1:])
        assert "its payload would begin at byte 0, in its header of" in said
    assert header.read_bytes() == before
    assert opened(stack, data, "--header", str(header)).read_bytes()[: len(DATA)] == DATA
    closed(stack)


@with_cryptsetup
def test_a_key_that_lies_within_a_file(stack: Place):
    volume, stick = stack.folder / "within.luks", stack.folder / "stick"
    volume.write_bytes(bytes(20 << 20))
    stick.write_bytes(os.urandom(65536))
    where = ("--keyfile-offset", "12345", "--keyfile-size", "512")
    tool("cryptsetup", "luksFormat", "-q", *FAST, *where, volume, stick)
    stack.ok("luks", "open", volume, "secret", "--key-file", stick, *where, "--type", "luks2")
    closed(stack)
    stack.ok("luks", "open", volume, "secret", "-d", stick, *where, "-S", "0", "--readonly")
    closed(stack)
    refused = stack.refused
    beyond = ("--keyfile-offset", "65535", "--keyfile-size", "2")
    said = refused(1, "luks", "open", volume, "secret", "--key-file", stick, *beyond)
    assert said.endswith("has 1 bytes there, 2 are asked for")
    said = refused(1, "luks", "open", volume, "secret", "-d", stick, "--keyfile-offset", "70000")
    assert said.endswith("ends after 65536 bytes, before 70000")
    assert "are of a --key-file" in refused(2, "luks", "open", volume, "secret", *where)
    said = refused(1, "luks", "open", volume, "secret", "-d", stick, "--type", "luks1")
    assert said.endswith("it is a luks2 volume, not luks1")


@with_cryptsetup
def test_a_volume_on_a_device_of_the_stack(stack: Place):
    volume = formatted(stack, "inner.luks", "--type", "luks2", "--sector-size", 4096)
    whole = stack.folder / "whole.img"
    whole.write_bytes(bytes(1 << 20) + volume.read_bytes())
    stack.ok("disk", "add", "whole", "--store", f"file:{whole}")
    stack.ok("dm", "add", "part", "--table", "0 40960 linear whole 2048")
    for name in ("part", stack.mount_point / "mapper/part"):
        file = opened(stack, name)
        write_at(file, 8192, DATA)
        said = stack.refused(1, "luks", "open", "part", "again", "--key-file", "-")
        assert said.endswith("mapper/part: this volume is open already, as 'secret'")
        assert "part" in stack.ok("ls", "--tree")
        closed(stack)
    view = ("luks", "open", stack.mount_point / "views/home", "again", "-d", "-")
    assert "is a view, under a key of its own" in stack.refused(1, *view)
    stack.ok("dm", "remove", "part")
    stack.ok("disk", "remove", "whole")
    inner = stack.folder / "cut.luks"
    inner.write_bytes(whole.read_bytes()[1 << 20 :])
    assert opened(stack, inner).read_bytes()[8192:][: len(DATA)] == DATA
    closed(stack)


@with_cryptsetup
@pytest.mark.loop
def test_a_volume_on_a_loop_device_over_the_stack_goes_past_the_loop(stack: Place):
    volume = formatted(stack, "looped.luks", "--type", "luks2")
    stack.ok("disk", "add", "looped", "--store", f"file:{volume}")
    node = stack.ok("attach", "looped").strip()
    opened(stack, Path(node))
    assert json.loads(stack.ok("ls", "--json"))["blockdevices"][-1]["fusedm"]["below"] == ["looped"]
    closed(stack)
    stack.ok("detach", "looped")
    stack.ok("disk", "remove", "looped")


@with_cryptsetup
def test_a_cipher_that_crypt_has_not_is_refused_by_its_name(stack: Place):
    volume = formatted(stack, "serpent.luks", "--type", "luks1")
    with volume.open("r+b") as file:
        file.seek(8)
        file.write(b"serpent\0")
    said = stack.refused(1, "luks", "open", volume, "secret", "-d", "-")
    assert "serpent-xts-plain64: cipher serpent is run by the kernel only" in said


@with_cryptsetup
def test_a_volume_under_adiantum_with_slots_that_cryptsetup_cannot_open(stack: Place):
    volume, key = under_adiantum(stack.folder / "adiantum.luks")
    file = opened(stack, volume, "--key-slot", "0")
    write_at(file, 4096, DATA)
    closed(stack)
    cipher = "xchacha12,aes-adiantum-plain64"
    coded = reference_dm_crypt.encrypt(cipher, bytes(key), 8, DATA[:8192], 4096)
    with volume.open("rb") as raw:
        raw.seek(read_volume(volume).offset + 4096)
        assert raw.read(8192) == coded
    said = stack.refused(1, "luks", "open", volume, "secret", "-d", "-", stdin="wrong")
    assert said.endswith("no key slot has this passphrase")

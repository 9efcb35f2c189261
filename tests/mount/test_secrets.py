"""The keys that the daemon was given are nowhere in its memory once they are removed."""

import base64
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from fusedm.block.errors import FusedmError
from fusedm.control.client import Client
from tests.helpers.dmsetup import dmsetup_in
from tests.helpers.memory_search import find_key
from tests.helpers.mounted import Mounted, mounted_stack, read_at, write_at

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root looks into another process"),
]

SECTORS = 2048

TOML = """
version = 1
[disks.d0]
size = "1MiB"
store = "memory:"
engine = { keyslots = 4, max_dun_bytes = 8, modes = { "AES-256-XTS" = [512, 4096] } }
[disks.d1]
size = "1MiB"
store = "memory:"
"""

KEY = """
[keys.k]
mode = "AES-256-XTS"
data_unit_size = 4096
dun_bytes = 8
source = "{source}"
[views.v]
device = "d0"
key = "k"
"""

#: One that is compiled, and one that is made of arrays.
CIPHERS = ("aes-xts-plain64", "aes-cbc-essiv:sha256")

#: It is done in one second on an idle machine.
GONE_SECONDS = 4.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    with mounted_stack(TOML, tmp_path_factory.mktemp("secrets")) as mounted:
        yield mounted


def new_key(cipher: str = "aes-xts-plain64") -> bytes:
    return secrets.token_bytes(32 if "cbc" in cipher else 64)


def crypt(key: bytes, cipher: str = "aes-xts-plain64", disk: str = "d0") -> str:
    return f"0 {SECTORS} crypt {cipher} {key.hex()} 0 {disk} 0"


def are_there(stack: Mounted, *keys: bytes) -> bool:
    """Whether each of them is: so the search finds what there is."""
    found = find_key(stack.process.pid, *keys)
    return all(any(f"key {at}," in place for place in found) for at in range(len(keys)))


def all_go(process: Mounted | int, *keys: bytes) -> None:
    """They go by themselves; where they were last is in the error otherwise."""
    pid = process if isinstance(process, int) else process.process.pid
    deadline = time.monotonic() + GONE_SECONDS
    while found := find_key(pid, *keys):
        assert time.monotonic() < deadline, "\n".join(found)
        time.sleep(0.2)


def use(path: Path) -> None:
    """Write and read, small and large, so that whatever makes keys ready has."""
    data = os.urandom(1 << 18)
    write_at(path, 0, data)
    assert read_at(path, 0, len(data)) == data
    assert read_at(path, 4096, 512) == data[4096:4608]


def test_the_keys_of_crypt_lines_in_a_stack_file_go_with_their_devices(tmp_path: Path) -> None:
    keys = [new_key(cipher) for cipher in CIPHERS]
    toml = TOML
    for number, disk in enumerate(("d0", "d1")):
        line = crypt(keys[number], CIPHERS[number], disk)
        toml += f'[mapper.c{number}]\ntable = "{line}"\n'
    with mounted_stack(toml, tmp_path) as stack:
        use(stack.mapper("c0"))
        use(stack.mapper("c1"))
        assert are_there(stack, *keys)
        stack.call("dm.remove", name="c0")
        stack.call("dm.remove", name="c1")
        all_go(stack, *keys)


def test_the_keys_of_devices_go_with_them(stack: Mounted) -> None:
    """Of targets that encrypt, and of those whose contexts an engine or a fallback carries out."""
    lines: dict[bytes, str] = {}
    for cipher in CIPHERS:
        key = new_key(cipher)
        lines[key] = crypt(key, cipher)
    for target in ("inlinecrypt", "default-key"):
        for disk in ("d0", "d1"):
            key = new_key()
            lines[key] = crypt(key, disk=disk).replace("crypt", target, 1)
    for number, line in enumerate(lines.values()):
        stack.call("dm.add", name=f"c{number}", table=line)
        use(stack.mapper(f"c{number}"))
    assert are_there(stack, *lines)
    for number in range(len(lines)):
        stack.call("dm.remove", name=f"c{number}")
    all_go(stack, *lines)


def test_keys_of_tables_that_are_cleared_or_replaced_go(stack: Mounted) -> None:
    keys = [new_key() for _ in range(4)]
    stack.call("dm.add", name="c", table=crypt(keys[0]))
    use(stack.mapper("c"))
    stack.call("dm.load", name="c", table=crypt(keys[1]))
    assert are_there(stack, *keys[:2])
    stack.call("dm.clear", name="c")
    stack.call("dm.load", name="c", table=crypt(keys[2]))
    stack.call("dm.load", name="c", table=crypt(keys[3]))
    stack.call("dm.resume", name="c")
    use(stack.mapper("c"))
    all_go(stack, *keys[:3])
    assert are_there(stack, keys[3])
    stack.call("dm.remove", name="c")
    all_go(stack, *keys)


SPOILT: list[Callable[[str], str]] = [
    lambda line: line.replace("0 d0 0", "0 nosuch 0"),
    lambda line: line.replace("xts", "xxx"),
    lambda line: line + " 1 no_such_option",
    lambda line: line + "\n9999 8 zero",
    lambda line: line.replace("0 d0 0", "0 d0 99999"),
    lambda line: line.replace(" 0 d0 0", "00 0 d0 0"),
    lambda line: line.replace("crypt", "linear"),
    lambda line: f"0 8 linear {line}",
]


def test_the_keys_of_lines_that_are_refused_go(stack: Mounted) -> None:
    keys = [new_key() for _ in SPOILT]
    for key, spoil in zip(keys, SPOILT, strict=True):
        with pytest.raises(FusedmError):
            stack.call("dm.add", name="c", table=spoil(crypt(key)))
    all_go(stack, *keys)


def test_the_keys_of_messages_go(stack: Mounted) -> None:
    first, second, refused = (new_key() for _ in range(3))
    stack.call("dm.add", name="c", table=crypt(first))
    use(stack.mapper("c"))
    words = ["key", "set", refused.hex()]
    with pytest.raises(FusedmError):
        stack.call("dm.message", name="c", sector=0, words=words)
    stack.call("dm.suspend", name="c")
    stack.call("dm.message", name="c", sector=0, words=["key", "set", second.hex()])
    assert are_there(stack, second)
    all_go(stack, first, refused)
    stack.call("dm.message", name="c", sector=0, words=["key", "wipe"])
    all_go(stack, second)
    stack.call("dm.remove", name="c")


def test_added_keys_go_when_they_are_removed(stack: Mounted, tmp_path: Path) -> None:
    sizes = {"AES-256-XTS": 64, "Adiantum": 32, "AES-128-CBC-ESSIV": 16}
    keys: dict[str, bytes] = {}
    for mode, size in sizes.items():
        name = mode.lower()
        keys[name] = secrets.token_bytes(size)
        source = tmp_path / name
        source.touch(0o600)
        source.write_text(keys[name].hex())
        words = ["key", "add", name, "--mode", mode, "--source", f"file:{source}"]
        done = stack.fusedm(*words, "--data-unit-size", "4096", "--dun-bytes", "8")
        assert done.returncode == 0, done.stderr
        for disk in ("d0", "d1"):
            stack.call("view.add", name=f"{name}-{disk}", device=disk, key=name)
            use(stack.view(f"{name}-{disk}"))
    assert are_there(stack, *keys.values())
    for name in keys:
        for disk in ("d0", "d1"):
            stack.call("view.remove", name=f"{name}-{disk}")
        stack.call("key.remove", name=name)
    all_go(stack, *keys.values())


def test_a_key_goes_from_an_engine_that_is_lost_or_was_reset(tmp_path: Path) -> None:
    key = new_key()
    with mounted_stack(TOML, tmp_path) as stack:
        stack.call("dm.add", name="c", table=crypt(key).replace("crypt", "inlinecrypt", 1))
        use(stack.mapper("c"))
        stack.call("disk.resetengine", name="d0")
        use(stack.mapper("c"))
        stack.call("disk.loseengine", name="d0")
        use(stack.mapper("c"))
        assert are_there(stack, key)
        stack.call("dm.remove", name="c")
        all_go(stack, key)


def test_a_client_that_stays_connected_keeps_no_key_in_the_daemon(stack: Mounted) -> None:
    key = new_key()
    with Client(str(stack.mount_point)) as client:
        client.call("dm.add", name="c", table=crypt(key))
        client.call("dm.remove", name="c")
        all_go(stack, key)


def test_a_key_from_the_environment_leaves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = new_key()
    monkeypatch.setenv("KEY_OF_TEST", key.hex())
    toml = TOML + KEY.format(source="env:KEY_OF_TEST")
    with mounted_stack(toml, tmp_path) as stack:
        use(stack.view("v"))
        assert are_there(stack, key)
        stack.call("view.remove", name="v")
        stack.call("key.remove", name="k")
        all_go(stack, key)


def test_wrapped_keys_go(tmp_path: Path) -> None:
    """Their long-term and their ephemeral form, and the raw key that one was made of."""
    raw = new_key()[:32]
    toml = TOML.replace("modes =", 'key_types = ["hw-wrapped"], modes =', 1)
    with mounted_stack(toml, tmp_path) as stack:
        encoded = base64.b64encode(raw).decode()
        long_term = stack.call("key.importwrapped", name="d0", raw=encoded)
        ephemeral = stack.call("key.prepare", name="d0", key=long_term)
        all_go(stack, raw, *map(base64.b64decode, (long_term, ephemeral)))


def test_the_key_of_a_luks_volume_goes_when_it_is_closed(tmp_path: Path) -> None:
    image, key_file = tmp_path / "l.img", tmp_path / "volume"
    image.touch()
    os.truncate(image, 32 << 20)
    key = new_key()
    key_file.write_bytes(key)
    passphrase = tmp_path / "p"
    passphrase.write_text("open sesame")
    words = ["cryptsetup", "luksFormat", "-q", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations"]
    words += ["1000", "--volume-key-file", key_file, "--key-size", "512", image, passphrase]
    subprocess.run(words, check=True)
    with mounted_stack(TOML, tmp_path) as stack:
        done = stack.fusedm("luks", "open", str(image), "l", "--key-file", str(passphrase))
        assert done.returncode == 0, done.stderr
        use(stack.mapper("l"))
        assert are_there(stack, key)
        done = stack.fusedm("luks", "close", "l")
        assert done.returncode == 0, done.stderr
        all_go(stack, key)


@pytest.mark.loop
def test_dmsetup_leaves_no_key_in_its_daemon_nor_in_the_server_beside_it(tmp_path: Path) -> None:
    key = new_key()
    with dmsetup_in(tmp_path) as dmsetup:
        # Both stay while this one is there.
        dmsetup.ok("create", "stays", "--table", "0 8 zero")
        line = crypt(key, disk=str(dmsetup.image("d.img", 1 << 20)))
        dmsetup.ok("create", "c", "--table", line)
        assert [pid for pid in processes_of(dmsetup.dev) if find_key(pid, key)]
        dmsetup.ok("table", "--showkeys", "c")
        dmsetup.ok("remove", "c")
        for pid in processes_of(dmsetup.dev):
            all_go(pid, key)
        dmsetup.ok("remove", "stays")


def processes_of(folder: Path) -> list[int]:
    """Those that have a folder on their command line."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError):
                words = (process / "cmdline").read_bytes().split(b"\0")
                if os.fsencode(folder) in words:
                    found.append(int(process.name))
    return found

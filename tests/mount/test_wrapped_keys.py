"""Hardware-wrapped keys with real commands: made, prepared, used by a view, kept over a restart."""

import stat
from collections.abc import Iterator

import pytest

from tests.helpers.cli import Place, place, run

pytestmark = pytest.mark.fuse

TOML = """
version = 1
[disks.ice0]
size = "1MiB"
store = "file:ice0.img"
engine = "qti-ice"
[disks.plain0]
size = "1MiB"
store = "memory:"
[mapper.mixed]
table = '''
0 1024 linear ice0 0
1024 1024 linear plain0 0
'''
"""
RAW = bytes(range(32))
SOURCE = "--source"


@pytest.fixture
def stack(tmp_path) -> Iterator[Place]:
    with place(tmp_path, TOML) as it:
        it.up()
        yield it


def put(stack: Place, name: str, data: bytes) -> None:
    path = stack.folder / name
    path.touch(mode=0o600)
    path.write_bytes(data)


def key(stack: Place, verb: str, *words: str) -> str:
    """A key verb, run where the files are."""
    return stack.ok("key", verb, *words, cwd=stack.folder)


def test_a_wrapped_key_is_imported_prepared_used_and_kept_over_a_restart(stack: Place):
    put(stack, "raw", RAW)
    assert key(stack, "import-wrapped", "ice0", SOURCE, "file:raw", "--out", "lt") == ""
    key(stack, "prepare", "ice0", SOURCE, "file:lt", "--out", "eph")
    key(stack, "software-secret", "ice0", SOURCE, "file:eph", "--out", "secret")
    for name, size in (("lt", 60), ("eph", 60), ("secret", 32), ("engine.secret", 32)):
        path = stack.folder / name
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.stat().st_size == size
        assert RAW[:16] not in path.read_bytes()
    key(stack, "add", "w", "--type", "hw-wrapped", SOURCE, "file:eph")
    words = ["--type", "hw-wrapped", "--wrapped-by", "ice0"]
    key(stack, "add", "kept", *words, SOURCE, "file:lt")
    stack.ok("view", "add", "v", "--device", "ice0", "--key", "w")
    stack.ok("view", "add", "same", "--device", "ice0", "--key", "kept")
    data = bytes(range(256)) * 16
    with (stack.mount_point / "views/v").open("r+b", buffering=0) as file:
        file.write(data)
    assert (stack.mount_point / "views/same").read_bytes()[:4096] == data
    assert (stack.mount_point / "disks/ice0").read_bytes()[:4096] != data
    crypto = stack.mount_point / "sys/block/ice0/queue/crypto"
    assert (crypto / "hw_wrapped_keys").read_text() == "supported\n"
    assert not (crypto / "raw_keys").exists()
    stack.ok("view", "remove", "v")
    stack.ok("key", "remove", "w")
    stack.ok("save", stack.folder / "saved.toml")
    assert run("down", stack.mount_point).returncode == 0
    stack.toml = stack.folder / "saved.toml"
    stack.up()
    assert (stack.mount_point / "views/same").read_bytes()[:4096] == data
    text = stack.refused(1, "key", "software-secret", "ice0", SOURCE, f"file:{path.parent}/eph",
                         "--out", str(stack.folder / "late"))  # fmt: skip
    assert text == "not a prepared key of this engine: corrupt, of another engine, or too old"
    assert not (stack.folder / "late").exists()


def test_a_wrapped_key_is_refused_where_software_would_have_to_use_it(stack: Place):
    key(stack, "generate-wrapped", "ice0", "--out", "lt")
    words = ["--type", "hw-wrapped", "--wrapped-by", "ice0"]
    key(stack, "add", "w", *words, SOURCE, "file:lt")
    for device in ("plain0", "mixed"):
        text = stack.refused(1, "view", "add", "v", "--device", device, "--key", "w")
        assert text.startswith(
            "key 'w' is hardware-wrapped, which no software can use, and not all"
        )
    out = str(stack.folder / "new")
    text = stack.refused(1, "key", "generate-wrapped", "plain0", "--out", out)
    assert text == "'plain0' has no inline engine"
    put(stack, "short", b"x" * 15)
    text = stack.refused(
        1, "key", "import-wrapped", "ice0", SOURCE, f"file:{stack.folder}/short", "--out", out
    )
    assert text == "a raw key to be wrapped has 16..64 bytes, 15 given"
    text = stack.refused(1, "key", "generate-wrapped", "ice0", "--out", str(stack.folder / "lt"))
    assert text.endswith("lt: File exists")

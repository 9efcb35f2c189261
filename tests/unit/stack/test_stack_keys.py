"""The keys of a stack: wiped when they go, and in nothing that is shown."""

import contextlib

import pytest

from fusedm.block.errors import CryptoError, StackError
from fusedm.stack import KeySpec, Stack, format_spec
from tests.helpers.builders import pattern

KEY = bytes(pattern(64, seed=7))
TOML = """\
version = 1

[disks.d]
size = "1MiB"
store = "memory:"

[keys.k]
mode = "AES-256-XTS"
data_unit_size = 4096
dun_bytes = 8
source = "file:k.key"

[views.v]
device = "d"
key = "k"
"""


@pytest.fixture
def toml(tmp_path):
    """The stack file, with its key beside it."""
    path = tmp_path / "stack.toml"
    path.write_text(TOML)
    (tmp_path / "k.key").write_bytes(KEY)
    (tmp_path / "k.key").chmod(0o600)
    return path


async def test_keys_are_wiped_when_the_stack_is_closed(toml):
    async with Stack.from_toml(toml) as stack:
        key = stack.system.keys["k"]
        assert bytes(key.raw) == KEY
    assert bytes(key.raw) == bytes(64)


async def test_a_removed_key_is_wiped(toml):
    async with Stack.from_toml(toml) as stack:
        key = stack.system.keys["k"]
        stack.system.remove_view("v")
        stack.remove_key("k")
        assert bytes(key.raw) == bytes(64)


@pytest.mark.parametrize("name", ["n", "k", "a/b"])
async def test_bytes_handed_over_are_wiped_whether_taken_or_refused(toml, name):
    async with Stack.from_toml(toml) as stack:
        raw = bytearray(KEY)
        with contextlib.suppress(StackError):
            await stack.add_key(KeySpec(name, "AES-256-XTS", 512, 8, "env:X"), raw)
        assert ("n" in stack.system.keys) == (name == "n")
        assert raw == bytes(64)


async def test_a_key_of_the_wrong_size_is_refused_with_both_numbers(toml):
    async with Stack.from_toml(toml) as stack:
        with pytest.raises(CryptoError, match="63 bytes given, AES-256-XTS needs 64"):
            await stack.add_key(KeySpec("n", "AES-256-XTS", 512, 8, "env:X"), KEY[1:])


async def test_no_byte_of_a_key_is_in_what_is_shown(toml):
    async with Stack.from_toml(toml) as stack:
        shown = [
            repr(stack), repr(stack.system), repr(stack.system.keys), repr(stack.system.views),
            repr(stack.spec()), format_spec(stack.spec()), repr(vars(stack)), repr(stack._keys),
        ]  # fmt: skip
        for call, spec in [
            (stack.system.remove_key, "k"),
            (stack.system.add_key, stack.system.keys["k"]),
        ]:
            with pytest.raises(StackError) as caught:
                call(spec)
            shown.append(f"{caught.value!r} {caught.value}")
    for text in shown:
        assert KEY.hex()[:16] not in text
        assert repr(KEY[:8])[2:-1] not in text

"""Stacks with hardware-wrapped keys: where the secret is, and keys that outlive a restart."""

import errno
import stat
from pathlib import Path

import pytest
import trio

from fusedm.block import Op
from fusedm.block.errors import CryptoError, SpecError, StackError
from fusedm.crypto import submit_bio
from fusedm.stack.engine_spec import EngineSpec
from fusedm.stack.key_sources import load_bytes, load_engine_secret
from fusedm.stack.save import format_spec
from fusedm.stack.spec import KeySpec, parse_spec
from fusedm.stack.stack import Stack
from tests.helpers.builders import pattern
from tests.helpers.commands import refusal, verbs

ENGINE = 'engine = { keyslots = 2, profile = "qti-ice" }'
TOML = f"""\
version = 1
[disks.ice0]
size = "64KiB"
store = "file:ice0.img"
{ENGINE}
[disks.ice1]
size = "64KiB"
store = "memory:"
engine = "everything"
[disks.ufs0]
size = "64KiB"
store = "memory:"
engine = "ufs"
[disks.plain0]
size = "64KiB"
store = "memory:"
"""
KEY = """
[keys.w]
mode = "AES-256-XTS"
data_unit_size = 4096
dun_bytes = 8
source = "file:w.blob"
type = "hw-wrapped"
wrapped_by = "ice0"
[views.v]
device = "ice0"
key = "w"
"""


def stack(folder: Path, text: str = TOML) -> Stack:
    return Stack(parse_spec(text, "s.toml"), folder)


def put(path: Path, data: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(data)


async def write_read(view, data: bytes | None) -> bytes:
    if data is not None:
        await submit_bio(view.device, view.bio(Op.WRITE, 0, memoryview(data)))
    buffer = bytearray(4096)
    await submit_bio(view.device, view.bio(Op.READ, 0, memoryview(buffer)))
    return bytes(buffer)


async def test_a_long_term_key_reads_its_data_again_after_a_restart(tmp_path):
    async with stack(tmp_path) as one:
        assert not (tmp_path / "engine.secret").exists()
        put(tmp_path / "w.blob", one.key_manager("ice0").generate_key())
        secret = tmp_path / "engine.secret"
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
        assert secret.stat().st_size == 32
    data = bytes(pattern(4096))
    async with stack(tmp_path, TOML + KEY) as one:
        assert await write_read(one.system.view("v"), data) == data
        saved = format_spec(one.spec())
    async with stack(tmp_path / "elsewhere", saved) as again:
        assert await write_read(again.system.view("v"), None) == data
        assert format_spec(again.spec()) == saved
        assert 'secret = "file:../engine.secret"' in format_spec(one.spec(tmp_path / "elsewhere"))
        assert "secret" not in format_spec(one.spec(tmp_path))
    assert data[:512] not in (tmp_path / "ice0.img").read_bytes()


async def test_an_engine_is_not_lost_under_a_wrapped_key_since_no_software_can_take_over(tmp_path):
    async with stack(tmp_path) as one:
        put(tmp_path / "w.blob", one.key_manager("ice0").generate_key())
    data = bytes(pattern(4096))
    async with stack(tmp_path, TOML + KEY) as one:
        with pytest.raises(CryptoError, match="'w' is hardware-wrapped: no software") as caught:
            await one.lose_engine("ice0")
        assert caught.value.errno == errno.EOPNOTSUPP
        assert one.spec().disks["ice0"].engine is not None
        assert await write_read(one.system.view("v"), data) == data


async def test_a_refused_blob_makes_no_secret(tmp_path):
    async with stack(tmp_path) as one:
        with pytest.raises(CryptoError, match="not a long-term key of this engine"):
            one.key_manager("ice0").prepare_key(bytes(60))
    assert not (tmp_path / "engine.secret").exists()


async def test_checking_a_stack_makes_no_secret_and_needs_no_key(tmp_path):
    await stack(tmp_path, TOML + KEY).check()
    assert list(tmp_path.iterdir()) == []


async def test_engines_share_a_secret_unless_they_name_another(tmp_path):
    put(tmp_path / "own", bytes(range(32)))
    own = ENGINE.replace("}", ', secret = "file:own" }')
    async with stack(tmp_path, TOML.replace(ENGINE, own)) as one:
        assert one.key_manager("ice0") is not one.key_manager("ice1")
        one.key_manager("ice0").generate_key()
        assert not (tmp_path / "engine.secret").exists()
        assert f'secret = "file:{tmp_path}/own"' in format_spec(one.spec())
    async with stack(tmp_path) as one:
        assert one.key_manager("ice0") is one.key_manager("ice1")


async def test_a_secret_that_cannot_be_read_fails_the_disk_at_its_line(tmp_path):
    own = ENGINE.replace("}", ', secret = "file:own" }')
    with pytest.raises(SpecError, match="key source 'file:.*own': No such file") as caught:
        async with stack(tmp_path, TOML.replace(ENGINE, own)):
            pass
    assert caught.value.errno == errno.ENOENT
    assert not (tmp_path / "ice0.img").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('"hw-wrapped"', '"wrapped"'), "keys.w.type: type 'wrapped' is unknown: the types are"),
        (('type = "hw-wrapped"\n', ""), "keys.w.wrapped_by: wrapped_by 'ice0' is for a key of typ"),
        (('by = "ice0"', 'by = "ice"'), "keys.w.wrapped_by: 'ice' is not a disk, did you mean"),
        ((ENGINE, ENGINE.replace("}", ', secret = "ab" }')), "engine.secret: not a source"),
    ],
)
def test_what_is_wrong_with_a_wrapped_key_is_said_at_its_line(change, words):
    with pytest.raises(SpecError) as caught:
        parse_spec((TOML + KEY).replace(*change), "s.toml")
    assert words in caught.value.text


async def test_a_key_prepared_before_a_restart_is_ebadmsg(tmp_path):
    async with stack(tmp_path) as one:
        manager = one.key_manager("ice0")
        put(tmp_path / "w.blob", manager.prepare_key(manager.generate_key()))
    with pytest.raises(SpecError, match="key 'w': not a prepared key of this engine") as caught:
        async with stack(tmp_path, TOML + KEY.replace('wrapped_by = "ice0"\n', "")):
            pass
    assert caught.value.errno == errno.EBADMSG
    with pytest.raises(SpecError, match="not a long-term key of this engine") as caught:
        async with stack(tmp_path, TOML + KEY):
            pass
    assert caught.value.errno == errno.EBADMSG


async def test_a_key_from_random_is_generated_by_the_engine(tmp_path):
    async with stack(tmp_path, TOML + KEY.replace("file:w.blob", "random")) as one:
        assert await write_read(one.system.view("v"), b"x" * 4096) == b"x" * 4096
        await one.add_key(KeySpec("n", "AES-256-XTS", 4096, 8, "random", "hw-wrapped"))


@pytest.mark.parametrize(
    ("disk", "words"),
    [
        ("ufs0", "the engine of 'ufs0' takes no hardware-wrapped keys"),
        ("plain0", "'plain0' has no inline engine"),
    ],
)
async def test_a_disk_that_takes_no_wrapped_keys_wraps_none(tmp_path, disk, words):
    async with verbs(tmp_path, TOML) as stack:
        for verb, args in (
            ("key.importwrapped", {"raw": ""}),
            ("key.generatewrapped", {}),
            ("key.prepare", {"key": ""}),
            ("key.softwaresecret", {"key": ""}),
        ):
            error = await refusal(stack, verb, name=disk, **args)
            assert (str(error), error.errno) == (words, errno.EOPNOTSUPP)


MAPPED = """
[mapper.both]
table = '''
0 64 linear ice0 0
64 64 linear ice1 0
'''
[mapper.mixed]
table = '''
0 64 linear ice0 0
64 64 linear plain0 0
'''
"""


async def test_the_first_disk_of_a_mapped_device_wraps_keys_for_it(tmp_path):
    text = TOML.replace(ENGINE, ENGINE.replace(" }", ', secret = "file:own.secret" }'))
    put(tmp_path / "own.secret", bytes(range(32)))
    async with verbs(tmp_path, text + MAPPED) as stack:
        blob = await stack.call("key.generatewrapped", name="both")
        ready = await stack.call("key.prepare", name="ice0", key=blob)
        same = await stack.call("key.prepare", name="both", key=blob)
        answers = [
            await stack.call("key.softwaresecret", name=name, key=key)
            for name, key in (("both", ready), ("ice0", same))
        ]
        assert answers[0] == answers[1]
        error = await refusal(stack, "key.prepare", name="ice1", key=blob)
        assert error.errno == errno.EBADMSG


async def test_a_mapped_device_that_takes_no_wrapped_keys_wraps_none(tmp_path):
    async with verbs(tmp_path, TOML + MAPPED) as stack:
        error = await refusal(stack, "key.generatewrapped", name="mixed")
        words = "not all of 'mixed' takes hardware-wrapped keys natively"
        assert (str(error), error.errno) == (words, errno.EOPNOTSUPP)


async def test_a_key_wrapped_by_a_mapped_device_is_saved_with_the_disk_that_does_it(tmp_path):
    async with stack(tmp_path, TOML + MAPPED) as one:
        put(tmp_path / "w.blob", one.key_manager("both").import_key(bytes(range(32))))
        spec = KeySpec("w", "AES-256-XTS", 4096, 8, "file:w.blob", "hw-wrapped", "both")
        await one.add_key(spec)
        assert 'wrapped_by = "ice0"' in format_spec(one.spec())


async def test_secrets_are_overwritten_when_the_stack_ends(tmp_path):
    async with stack(tmp_path) as one:
        manager = one.key_manager("ice0")
        blob = manager.generate_key()
    with pytest.raises(CryptoError):
        manager.prepare_key(blob)


def test_the_secret_is_made_once(tmp_path):
    first = load_engine_secret(tmp_path / "s", True)
    assert load_engine_secret(tmp_path / "s", True) == first
    assert len(first) == 32
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_a_secret_that_cannot_be_made_says_why(tmp_path):
    with pytest.raises(StackError, match="the engine's secret '.*' cannot be made: No such") as one:
        load_engine_secret(tmp_path / "no" / "s", True)
    assert one.value.errno == errno.ENOENT


def test_wrapped_keys_come_raw_or_from_env_in_hexadecimal(tmp_path, monkeypatch):
    put(tmp_path / "b", b"abc")
    assert load_bytes("file:b", 3, tmp_path) == b"abc"
    monkeypatch.setenv("BLOB", "616263")
    assert load_bytes("env:BLOB", 8, tmp_path) == b"abc"
    with pytest.raises(CryptoError, match="it holds more than 2 bytes"):
        load_bytes("file:b", 2, tmp_path)
    with pytest.raises(CryptoError, match="not 4 hexadecimal digits"):
        load_bytes("env:BLOB", 2, tmp_path)
    with pytest.raises(StackError, match="does not come from random"):
        load_bytes("random", 8, tmp_path)


def test_whether_an_engine_takes_wrapped_keys_follows_from_its_numbers():
    assert EngineSpec(profile="qti-ice").takes_wrapped_keys
    assert not EngineSpec(profile="qti-ice", key_types=["raw"]).takes_wrapped_keys


async def test_two_disks_with_one_secret_read_it_once(tmp_path):
    put(tmp_path / "own", bytes(range(32)))
    async with stack(tmp_path) as one, trio.open_nursery() as nursery:
        for name in ("a", "b"):
            spec = parse_spec(TOML, "s").disks["ice1"]
            engine = EngineSpec(profile="qti-ice", secret="file:own")
            nursery.start_soon(one.add_disk, type(spec)(name, 65536, "memory:", engine))
    assert one.key_manager("a") is one.key_manager("b")

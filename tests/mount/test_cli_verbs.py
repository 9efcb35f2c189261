"""Every verb on a running stack, as real commands: once done, once refused without a change."""

import errno
import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.helpers.cli import KEY, PROGRAM, Place, ok, place, refused

pytestmark = pytest.mark.fuse

NOT_THERE = f"no fusedm daemon can be reached there: {os.strerror(errno.ENOENT)}"


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """One stack for all of these tests; each leaves it as it was."""
    with place(tmp_path_factory.mktemp("verbs")) as it:
        it.up()
        yield it


@pytest.fixture(autouse=True)
def left_as_it_was(stack):
    before = stack.state()
    yield
    assert stack.state() == before


# Looking.


def test_ls_prints_a_table(stack: Place):
    lines = stack.ok("ls").splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", "ufs0", "plain0", "data", "home"]
    assert lines[-1].split()[-1] == str(stack.mount_point / "views/home")


def test_ls_prints_what_lsblk_would(stack: Place):
    rows = json.loads(stack.ok("ls", "--json"))["blockdevices"]
    home = rows[-1]
    assert set(home) >= {"name", "path", "type", "size", "ro", "log-sec", "pkname"}
    assert (home["name"], home["type"], home["pkname"]) == ("home", "crypt", "data")
    assert (home["size"], home["log-sec"]) == (Path(home["path"]).stat().st_size, 4096)


def test_ls_prints_a_tree(stack: Place):
    names = [line.strip(" |`-").split()[0] for line in stack.ok("ls", "--tree").splitlines()]
    assert names == ["home", "data", "ufs0", "plain0"]


def test_status_counts(stack: Place):
    told = json.loads(stack.ok("status", "--json"))
    assert (told["mount_point"], told["pid"]) == (str(stack.mount_point), stack.pid())
    assert "suspended    none" in stack.ok("status")


def test_save_writes_to_standard_output_or_a_file(stack: Place, tmp_path):
    text = stack.ok("save")
    assert stack.ok("save", tmp_path / "saved.toml") == ""
    from_there = os.path.relpath(stack.folder, tmp_path)
    there = text.replace(f"file:{stack.folder}/", f"file:{from_there}/")
    assert there != text
    assert (tmp_path / "saved.toml").read_text() == there
    ok("check", tmp_path / "saved.toml")


def test_save_to_where_it_cannot_be_is_refused(stack: Place, tmp_path):
    text = stack.refused(1, "save", tmp_path / "no" / "such")
    assert text == f"{tmp_path}/no/such: No such file or directory"


# Disks.


def test_a_disk_is_added_listed_shown_and_removed(stack: Place, tmp_path):
    words = ["--size", "64KiB", "--keyslots", "0", "--mode", "AES-256-XTS=512,4096"]
    stack.ok("disk", "add", "d", "--store", "file:d.img", *words, cwd=tmp_path)
    assert (tmp_path / "d.img").stat().st_size == 65536
    assert (stack.mount_point / "disks/d").stat().st_size == 65536
    assert stack.ok("disk", "list").split() == ["ufs0", "plain0", "d"]
    told = json.loads(stack.ok("disk", "show", "d"))
    assert told["native_modes"] == {"AES-256-XTS": [512, 4096]}
    stack.ok("disk", "remove", "d")
    assert not (stack.mount_point / "disks/d").exists()


def test_a_ready_made_engine_is_added_with_a_number_of_ones_own(stack: Place, tmp_path):
    words = ["--size", "64KiB", "--engine", "emmc", "--keyslots", "2"]
    stack.ok("disk", "add", "d", "--store", "memory:", *words)
    crypto = stack.mount_point / "sys/block/d/queue/crypto"
    assert (crypto / "num_keyslots").read_text() == "2\n"
    assert (crypto / "max_dun_bits").read_text() == "32\n"
    assert (crypto / "modes/AES-256-XTS").read_text() == "0x1000\n"
    stack.ok("save", tmp_path / "saved.toml")
    assert 'engine = { keyslots = 2, profile = "emmc" }' in (tmp_path / "saved.toml").read_text()
    ok("check", tmp_path / "saved.toml")
    stack.ok("disk", "remove", "d")


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--size", "4KiB"], 1, "name 'home' is taken"),
        (["--size", "4KiBs"], 2, "--size: "),
        (["--size", "4KiB", "--keyslots", "4"], 2, "or both --keyslots and --mode"),
        (["--size", "4KiB", "--mode", "AES-256-XTS=512"], 2, "an engine needs --engine, or both"),
        (["--size", "4KiB", "--engine", "usf"], 1, "profile 'usf' is no engine, did you mean"),
        (["--keyslots", "4", "--mode", "AES-256-XTS=x"], 2, "--mode: 'AES-256-XTS=x' is not"),
        (["--size", "4KiB", "--keyslots", "99999", "--mode", "AES-256-XTS=512"], 1, "0..1024"),
    ],
)
def test_a_disk_that_cannot_be_is_refused(stack: Place, words, code, text):
    name = "home" if "taken" in text else "n"
    assert text in stack.refused(code, "disk", "add", name, "--store", "memory:", *words)


def test_a_disk_in_use_is_not_removed_and_says_by_whom(stack: Place):
    assert stack.refused(1, "disk", "remove", "ufs0") == "'ufs0' is in use by data"


def test_a_disk_over_the_mount_itself_is_refused(stack: Place):
    store = f"file:{stack.mount_point}/disks/ufs0"
    text = stack.refused(1, "disk", "add", "n", "--store", store)
    assert "lies inside the mount point" in text


def test_power_is_lost_on_a_volatile_disk_only(stack: Place):
    path = stack.mount_point / "disks/plain0"
    before = path.read_bytes()
    with path.open("r+b", buffering=0) as file:
        file.write(b"x" * 512)
    stack.ok("disk", "lose-power", "plain0", "--keep", "nothing")
    assert path.read_bytes() == before
    assert "no volatile cache" in stack.refused(1, "disk", "lose-power", "ufs0")


def test_an_engine_is_lost_and_gained_and_sys_follows(stack: Place):
    crypto = stack.mount_point / "sys/block/ufs0/queue/crypto"
    view = stack.mount_point / "views/home"
    before, slots = view.read_bytes()[:65536], (crypto / "num_keyslots").read_text()
    stack.ok("disk", "lose-engine", "ufs0")
    assert not crypto.exists()
    assert view.read_bytes()[:65536] == before
    assert "no engine to lose" in stack.refused(1, "disk", "lose-engine", "ufs0")
    assert "both --keyslots and --mode" in stack.refused(2, "disk", "gain-engine", "ufs0")
    mode = ["--mode", "AES-256-XTS=512,4096"]
    stack.ok("disk", "gain-engine", "ufs0", "--keyslots", slots.strip(), *mode)
    assert (crypto / "num_keyslots").read_text() == slots
    assert view.read_bytes()[:65536] == before
    assert "lose it first" in stack.refused(1, "disk", "gain-engine", "ufs0", "--keyslots=7", *mode)


# Mapped devices.


def test_a_mapped_device_is_added_listed_shown_and_removed(stack: Place):
    stack.ok("dm", "add", "m", "--table", "0 8 zero", "--uuid", "u-1")
    assert (stack.mount_point / "mapper/m").read_bytes() == bytes(4096)
    assert stack.ok("dm", "list").split() == ["data", "m"]
    assert json.loads(stack.ok("dm", "show", "m"))["uuid"] == "u-1"
    assert stack.ok("dm", "status", "m").split() == ["0", "8", "zero"]
    stack.ok("dm", "remove", "m")


def test_a_mapped_device_takes_messages_and_another_name_which_is_an_event(stack: Place):
    stack.ok("dm", "add", "m", "--table", "0 8 dust ufs0 0 512")
    assert stack.ok("dm", "message", "m", "0", "addbadblock", "5") == ""
    assert stack.ok("dm", "message", "m", "0", "listbadblocks") == "5\n"
    assert json.loads(stack.ok("dm", "show", "m"))["events"] == 0
    stack.ok("dm", "rename", "m", "n")
    assert stack.ok("dm", "wait", "n") == "1\n"
    assert json.loads(stack.ok("dm", "show", "n"))["events"] == 1
    stack.ok("dm", "remove", "n")


def test_a_table_is_loaded_from_a_file_or_standard_input_and_resumed(stack: Place, tmp_path):
    (tmp_path / "table").write_text("0 16 zero\n")
    stack.ok("dm", "add", "m", "--no-table")
    assert stack.ok("dm", "table", "m").strip() == ""
    stack.ok("dm", "load", "m", tmp_path / "table")
    assert stack.ok("dm", "table", "m", "--inactive").split() == ["0", "16", "zero"]
    stack.ok("dm", "clear", "m")
    assert stack.ok("dm", "table", "m", "--inactive").strip() == ""
    stack.ok("dm", "load", "m", "-", stdin="0 8 error\n")
    stack.ok("dm", "suspend", "m")
    assert "m (suspended)" in stack.ok("ls")
    stack.ok("dm", "resume", "m")
    assert stack.ok("dm", "table", "m").split() == ["0", "8", "error"]
    stack.ok("dm", "remove", "m")


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["add", "n"], 2, "give the table either with --table or as a FILE"),
        (["add", "n", "x", "--table", "0 8 zero"], 2, "give the table either"),
        (["add", "n", "no-such-file"], 1, "no-such-file: No such file or directory"),
        (["add", "n", "/dev/zero/x"], 1, "/dev/zero/x: Not a directory"),
        (["add", "n", "--table", "0 8 linear ufs0"], 1, "linear: "),
        (["load", "data", "--table", "0 8 linear home 0"], 1, "'home' is a view"),
        (["remove", "data"], 1, "'data' is in use by home"),
        (["remove", "ufs0"], 1, "'ufs0' is not a mapped device"),
        (["suspend", "nobody"], 1, "'nobody' is not a mapped device"),
        (["resume", "nobody"], 1, "'nobody' is not a mapped device"),
        (["clear", "nobody"], 1, "'nobody' is not a mapped device"),
        (["table", "nobody"], 1, "'nobody' is not a mapped device"),
        (["status", "nobody"], 1, "'nobody' is not a mapped device"),
        (["show", "nobody"], 1, "'nobody' is not a mapped device"),
        (["rename", "nobody", "n"], 1, "'nobody' is not a mapped device"),
        (["wait", "nobody"], 1, "'nobody' is not a mapped device"),
        (["message", "data", "0", "hello"], 1, "linear takes no message 'hello'"),
        (["message", "data", "8192", "hello"], 1, "sector 8192 is not within data"),
    ],
)
def test_what_a_mapped_device_cannot_do_is_refused(stack: Place, words, code, text):
    assert text in stack.refused(code, "dm", *words)


# Keys and views.


def test_a_key_comes_from_wherever_its_source_says(stack: Place, tmp_path):
    reader, writer = os.pipe()
    os.write(writer, KEY)
    os.close(writer)
    (tmp_path / "key").write_bytes(KEY)
    (tmp_path / "key").chmod(0o600)
    env = {**stack.env, "SECRET": KEY.hex()}
    ok("key", "add", "of-file", "--source", "file:key", env=env, cwd=tmp_path)
    ok("key", "add", "of-env", "--source", "env:SECRET", env=env)
    ok("key", "add", "of-fd", "--source", f"fd:{reader}", env=env, pass_fds=[reader])
    ok("key", "add", "of-chance", "--source", "random", env=env)
    os.close(reader)
    home = stack.mount_point / "views/home"
    with home.open("r+b", buffering=0) as file:
        file.write(b"x" * 4096)  # What was never written reads as zeros under any key.
    for name in ("of-file", "of-env", "of-fd", "of-chance"):
        stack.ok("view", "add", "v", "--device", "data", "--key", name)
        same = (stack.mount_point / "views/v").read_bytes()[:4096] == home.read_bytes()[:4096]
        assert same == (name != "of-chance")
        stack.ok("view", "remove", "v")
        stack.ok("key", "remove", name)


def test_keys_are_listed_with_the_views_that_use_them(stack: Place):
    told = json.loads(stack.ok("key", "list", "--json"))
    assert [(key["name"], key["views"]) for key in told] == [("alice", ["home"])]
    assert stack.ok("key", "list").splitlines()[1].split()[0] == "alice"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["add", "n", "--source", KEY.hex()], "a key is not written out here"),
        (["add", "n", "--source", "env:NO_SUCH"], "no such environment variable"),
        (["add", "n", "--source", "fd:99"], "Bad file descriptor"),
        (["add", "n", "--source", "random", "--mode", "ROT-13"], "ROT-13"),
        (["add", "alice", "--source", "random"], "'alice' is there already"),
        (["remove", "alice"], "'alice' is in use by home"),
    ],
)
def test_what_a_key_cannot_do_is_refused(stack: Place, words, text):
    said = stack.refused(1, "key", *words)
    assert text in said
    assert KEY.hex() not in said


def test_a_view_is_added_listed_shown_and_removed(stack: Place):
    stack.ok("view", "add", "v", "--device", "plain0", "--key", "alice", "--dun-base", "7")
    assert stack.ok("view", "list").split() == ["home", "v"]
    assert json.loads(stack.ok("view", "show", "v"))["dun_base"] == 7
    stack.ok("view", "remove", "v")
    words = ["--device", "plain0", "--key", "alice", "--start", "8KiB", "--size", "4KiB"]
    stack.ok("view", "add", "part", *words)
    told = json.loads(stack.ok("view", "show", "part"))
    assert (told["start"], told["size"]) == (8192, 4096)
    stack.ok("view", "remove", "part")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["add", "v", "--device", "home", "--key", "alice"], "'home' is a view, not a device"),
        (["add", "v", "--device", "data", "--key", "bob"], "'bob' is not a key"),
        (["add", "v", "--device", "data", "--key", "alice", "--dun-base", "-1"], "-1"),
        (["add", "v", "--device", "data", "--key", "alice", "--start", "512"], "not a multiple"),
        (["show", "data"], "'data' is not a view"),
        (["remove", "data"], "'data' is not a view"),
    ],
)
def test_what_a_view_cannot_do_is_refused(stack: Place, words, text):
    assert text in stack.refused(1, "view", *words)


def test_what_is_open_is_not_removed_and_down_says_who_holds_it(stack: Place):
    with (stack.mount_point / "views/home").open("rb"):
        state = stack.call("ls")
        said = refused(1, "view", "remove", "home", env=stack.env)
        assert said.startswith("'home' is in use by 1 open files: ")
        assert f"(pid {os.getpid()})" in said
        said = refused(1, "down", stack.mount_point)
        assert said.startswith(f"{stack.mount_point}/views/home is held by ")
        assert f"(pid {os.getpid()})" in said
        assert stack.call("ls") == state


def test_a_daemon_that_is_not_there_cannot_be_reached(stack: Place, tmp_path):
    assert refused(1, "ls", "--stack", tmp_path) == f"{tmp_path}: {NOT_THERE}"
    assert refused(1, "status", env={"FUSEDM_STACK": str(tmp_path)}) == f"{tmp_path}: {NOT_THERE}"


def test_output_that_cannot_be_written_is_one_clear_line(stack: Place):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [PROGRAM, "ls"], env={**os.environ, **stack.env}, stdout=full, stderr=subprocess.PIPE,
            check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, b"fusedm: No space left on device\n")


def test_a_reader_that_goes_away_is_no_traceback(stack: Place):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [PROGRAM, "ls"], env={**os.environ, **stack.env}, stdout=writer, stderr=subprocess.PIPE,
        check=False,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")

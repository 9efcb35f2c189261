"""Stacks brought up and down with real commands: what works, and what is refused and why."""

import base64
import json
import os
import signal
import socket
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

from fusedm.control import run_dir
from fusedm.host.run_folder import run_folder
from tests.helpers.cli import KEY, PROGRAM, TOML, Place, ok, place, refused, run, wait_until
from tests.helpers.namespaces import unshare_mounts
from tests.helpers.tiers import left_behind

pytestmark = pytest.mark.fuse


@pytest.fixture
def here(tmp_path):
    """A place for a stack, where nothing is left when the test is over."""
    with place(tmp_path) as it:
        yield it
    assert left_behind(os.path.realpath(tmp_path)) == []


def nothing_is_up(it: Place) -> bool:
    """Whether a stack has left no mount, daemon, socket or lock file."""
    left = run_dir.socket_path(str(it.mount_point))
    return it.is_gone() and not left.exists() and not left.with_suffix(".json").exists()


# Up and down.


def test_up_returns_when_the_mount_answers_and_down_when_it_is_gone(here: Place):
    here.up()
    assert sorted(os.listdir(here.mount_point)) == ["disks", "mapper", "sys", "views"]
    log = run_dir.log_path(str(here.mount_point))
    assert (log.stat().st_size, log.stat().st_mode & 0o777) == (0, 0o600)
    pid = here.pid()
    assert run("down", here.mount_point).stderr == f"ended daemon {pid}\n"
    assert nothing_is_up(here)
    assert not log.exists()


def test_a_detached_daemon_does_not_keep_its_callers_folder_busy(here: Place):
    here.up(cwd=here.folder)
    assert os.readlink(f"/proc/{here.pid()}/cwd") == "/"


def test_in_the_background_an_interrupt_ends_it_and_under_nohup_a_hangup_does_not(here: Place):
    ignoring = ["env", "--ignore-signal=INT", "--ignore-signal=HUP"]
    command = [*ignoring, PROGRAM, "up", str(here.toml), str(here.mount_point), "--foreground"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"READY {here.mount_point}\n"
        told = Path(f"/proc/{process.pid}/status").read_text()
        ignored = int(told.partition("SigIgn:")[2].split()[0], 16)
        assert ignored >> (signal.SIGHUP - 1) & 1
        assert not ignored >> (signal.SIGINT - 1) & 1
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_foreground_says_ready_and_stays_until_it_is_told_to_end(here: Place):
    command = [PROGRAM, "up", str(here.toml), str(here.mount_point), "--foreground"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == f"READY {here.mount_point}\n"
        assert here.pid() == daemon.pid
        run("down", here.mount_point)
        assert daemon.wait(10) == 0
    assert nothing_is_up(here)


def test_what_is_saved_comes_up_as_the_same_stack_with_the_same_bytes(here: Place):
    here.up()
    home = here.mount_point / "views/home"
    with home.open("r+b", buffering=0) as file:
        file.write(b"kept" * 1024)
    here.ok("dm", "add", "half", "--table", "0 8 linear data 8")
    saved = here.folder / "saved.toml"
    here.ok("save", saved)
    assert 'store = "file:ufs0.img"' in saved.read_text()
    assert here.refused(1, "save", saved) == f"{saved}: is there already; --force writes over it"
    here.ok("save", "--force", saved)
    before = here.files()
    run("down", here.mount_point)
    ok("up", saved, here.mount_point)
    assert here.files() == before
    assert home.read_bytes()[:4096] == b"kept" * 1024
    (here.folder / "sub").mkdir()
    here.ok("save", "sub/saved.toml", cwd=here.folder)
    assert 'store = "file:../ufs0.img"' in (here.folder / "sub/saved.toml").read_text()
    assert here.ok("save", "/dev/stdout") == here.ok("save", "--force", "/dev/stdout")
    assert here.ok("save") == saved.read_text().replace("file:", f"file:{here.folder}/")


def test_down_where_no_stack_is_is_refused(here: Place):
    assert refused(1, "down", here.mount_point) == f"{here.mount_point}: no stack is there"
    assert refused(2, "down") == "give either a MOUNTPOINT or --all"
    assert refused(2, "down", here.mount_point, "--all") == "give either a MOUNTPOINT or --all"


@pytest.mark.alone  # Its mount namespace holds what others have mounted.
def test_which_stack_is_meant_and_all_of_them_down(here: Place):
    # In a /run of its own, where no other stack of this machine is seen.
    script = """
        mount -t tmpfs none /run
        code() { "$@" 2>&1 | head -1; echo "code ${PIPESTATUS[0]}"; }
        code "$0" status
        "$0" up stack.toml mnt
        "$0" dm list
        sed s/ufs0.img/other.img/ stack.toml > other.toml
        "$0" up other.toml other
        code "$0" ls
        "$0" dm add m --no-table --stack other
        FUSEDM_STACK=other "$0" dm list
        FUSEDM_STACK=other "$0" dm list --stack mnt
        exec 9< mnt/disks/plain0
        code "$0" down --all | sed 's/ is held by.*/ is held/'
        "$0" dm list --stack other
        exec 9<&-
        "$0" down --all 2>&1 | sed 's/[0-9]*$//'
        ls /run/fusedm mnt other
    """
    (here.folder / "other").mkdir()
    done = subprocess.run(
        [*unshare_mounts("--fork", "--kill-child"), "bash", "-ec", script, PROGRAM],
        cwd=here.folder, capture_output=True, text=True, timeout=60, check=False,
        env={name: value for name, value in os.environ.items() if name != "FUSEDM_STACK"},
    )  # fmt: skip
    folder = here.folder
    listed = sorted(
        [str(here.mount_point), str(folder / "other")],
        key=lambda point: run_dir.socket_path(point).name,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "fusedm: no stack is running: start one with `fusedm up STACK.toml MOUNTPOINT`",
        "code 1",
        "data",
        f"fusedm: several stacks are running, choose with --stack: {', '.join(listed)}",
        "code 2",
        "data",
        "m",
        "data",
        f"fusedm: {folder}/mnt/disks/plain0 is held",
        "code 1",
        "data",
        "m",
        "ended daemon ",
        "ended daemon ",
        "/run/fusedm:",
        "",
        "mnt:",
        "",
        "other:",
    ]


# The service manager and mount(8).


@pytest.fixture
def notify_socket():
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening,
    ):
        listening.bind(f"{folder}/notify")
        listening.settimeout(10)
        yield listening


def test_the_service_manager_is_told(here: Place, notify_socket):
    here.up(env={"NOTIFY_SOCKET": notify_socket.getsockname()})
    assert notify_socket.recv(100) == b"READY=1"
    run("down", here.mount_point)
    assert notify_socket.recv(100) == b"STOPPING=1"


def test_a_service_manager_that_has_gone_is_no_reason_to_end(here: Place):
    here.up(env={"NOTIFY_SOCKET": "/no/such/socket"})
    assert here.ok("dm", "list") == "data\n"
    assert run("down", here.mount_point).returncode == 0
    assert nothing_is_up(here)


@pytest.mark.alone  # Its mount namespace holds what others have mounted.
def test_mount_and_umount_do_as_up_and_down(here: Place):
    # mount(8) looks for us in the system's folders only: one is ours in a namespace of our own.
    script = """
        mount -t tmpfs none /usr/local/bin
        ln -s "$0" /usr/local/bin/fusedm
        mount -t fuse.fusedm stack.toml mnt -o allow_other,noatime
        grep -o "$PWD/mnt.*allow_other" /proc/mounts
        ls mnt
        umount mnt
        ! mount -t fuse.fusedm stack.toml mnt -o colour=red
    """
    done = subprocess.run(
        [*unshare_mounts(), "bash", "-ec", script, PROGRAM],
        cwd=here.folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    mounted, *names = done.stdout.splitlines()
    assert mounted.startswith(f"{here.mount_point} fuse.fusedm rw,")
    assert names == ["disks", "mapper", "sys", "views"]
    assert "fusedm: mount option 'colour=red' is unknown" in done.stderr
    wait_until(lambda: nothing_is_up(here))


# Keys.


def test_keys_come_from_the_environment_and_descriptors_of_up(here: Place):
    reader, writer = os.pipe()
    os.write(writer, KEY.hex().encode() + b"\n")
    os.close(writer)
    more = '\n[keys.bob]\nmode = "AES-256-XTS"\ndata_unit_size = 512\ndun_bytes = 4\n'
    here.toml.write_text(
        TOML.replace("file:alice.key", "env:ALICE") + more + f'source = "fd:{reader}"\n'
    )
    here.up(env={"ALICE": KEY.hex()}, pass_fds=[reader])
    os.close(reader)
    assert [key["name"] for key in json.loads(here.ok("key", "list", "--json"))] == ["alice", "bob"]


@pytest.mark.alone
def test_no_byte_of_a_key_is_to_be_seen(here: Place):
    here.up()
    here.ok("key", "add", "bob", "--source", f"file:{here.folder}/alice.key")
    reads = ["status", "ls", "save", "key.list"]
    seen = [json.dumps(here.call(verb)).encode() for verb in reads]
    seen += [json.dumps(here.call("view.show", name="home")).encode()]
    seen += [json.dumps(here.call("dm.show", name="data")).encode()]
    seen += [here.ok("save").encode(), here.ok("key", "list").encode()]
    seen += [subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, check=True).stdout]
    for path in run_folder().iterdir():
        with suppress(OSError):  # Others' come and go, and a socket cannot be opened.
            seen.append(path.read_bytes())
    seen += [refused(1, "key", "add", "bob", "--source", "random", env=here.env).encode()]
    seen += [path.read_bytes() for path in here.mount_point.glob("sys/**/*") if path.is_file()]
    shapes = [KEY[:8], KEY.hex()[:16].encode(), KEY.hex().upper()[:16].encode()]
    shapes += [base64.b64encode(KEY[start:])[:16] for start in range(3)]
    for text in seen:
        assert not [shape for shape in shapes if shape in text]


# Refused: one clear line, and nothing is left.


@pytest.mark.parametrize(
    ("code", "prepare", "text"),
    [
        (1, lambda point: point.rmdir(), "No such file or directory"),
        (1, lambda point: (point.rmdir(), point.touch()), "Not a directory"),
        (1, lambda point: (point / "x").touch(), "is not empty: 1 entries, must have 0"),
    ],
    ids=["missing", "a file", "not empty"],
)
def test_a_mount_point_that_cannot_be_is_refused(here: Place, code, prepare, text):
    prepare(here.mount_point)
    said = refused(code, "up", here.toml, here.mount_point)
    assert said.startswith(f"mount point {here.mount_point}")
    assert text in said
    assert not (here.folder / "ufs0.img").exists()


def test_a_mount_point_in_use_is_refused(here: Place):
    here.up()
    said = refused(1, "up", here.toml, here.mount_point)
    assert said == f"{here.mount_point} is already mounted: fuse.fusedm from fusedm"
    assert here.ok("dm", "list") == "data\n"


BAD = {
    "malformed TOML": ("version = 1", "version = = 1", 1, ""),
    "another version": ("version = 1", "version = 2", 1, "2 is not 1"),
    "an unknown key": ("[mapper.data]", "[mapper.data]\ncolour = 1", 13, "colour"),
    "a wrong type": ('size = "4MiB"\nstore = "file', 'size = 4\nstore = "file', 4, "size"),
    "a gap": ("4096 4096 linear", "4100 4096 linear", 15, "4100"),
    "an overlap": ("4096 4096 linear", "4000 4096 linear", 15, "4000"),
    "an unknown target": ("4096 linear ufs0", "4096 linnear ufs0", 14, "linnear"),
    "a wrong argument count": ("linear ufs0 0", "linear ufs0", 14, "linear"),
    "a range past the device": ("linear plain0 0", "linear plain0 8000", 15, "plain0"),
    "a cycle": ("linear ufs0 0", "linear data 0", 13, "data -> data"),
    "a mode not known": ('mode = "AES-256-XTS"', 'mode = "ROT-13"', 19, "ROT-13"),
    "a key written out": ("file:alice.key", KEY.hex(), 22, "a key is not written out"),
    "a key that is missing": ("file:alice.key", "file:bob.key", 22, "No such file"),
    "a name taken twice": ("[views.home]", "[views.data]", 24, "data"),
    "a name with a slash": ("[views.home]", '[views."a/b"]', 24, "'/'"),
    "an empty name": ("[views.home]", '[views.""]', 24, "is empty"),
    "a name too long": ("[views.home]", f"[views.{'x' * 128}]", 24, "128 bytes is longer than 127"),
    "a store that is a directory": ("file:ufs0.img", "file:.", 5, "is a directory"),
    "a store without a folder": ("file:ufs0.img", "file:no/x.img", 5, "does not exist"),
    "a store on the mount": ("file:ufs0.img", "file:mnt/x", 5, "inside the mount point"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_stack_that_cannot_be_is_refused_at_its_line(here: Place, what):
    old, new, line, text = BAD[what]
    assert old in TOML
    here.toml.write_text(TOML.replace(old, new, 1))
    before = sorted(here.folder.rglob("*"))
    said = refused(1, "up", here.toml, here.mount_point)
    assert said.startswith(f"{here.toml}:{line}: ")
    assert text in said
    assert KEY.hex() not in said
    assert sorted(here.folder.rglob("*")) == before
    assert nothing_is_up(here)


def test_a_store_that_is_too_small_or_missing_or_read_only_is_refused(here: Place):
    image = here.folder / "ufs0.img"
    image.write_bytes(b"x" * 512)
    said = refused(1, "up", here.toml, here.mount_point)
    assert "too small: has 512 bytes, needs 4194304" in said
    assert image.read_bytes() == b"x" * 512
    image.unlink()
    here.toml.write_text(TOML.replace('size = "4MiB"\nstore = "file', 'store = "file', 1))
    assert "No such file" in refused(1, "check", here.toml)
    assert "No such file" in refused(1, "up", here.toml, here.mount_point)


def test_a_key_of_the_wrong_size_is_refused_with_both_sizes(here: Place):
    (here.folder / "alice.key").write_bytes(KEY[:-1])
    assert "it holds 63 bytes, not 64 bytes or" in refused(1, "up", here.toml, here.mount_point)
    assert not (here.folder / "ufs0.img").exists()


def test_a_stack_file_that_is_not_there_is_refused(here: Place):
    path = here.folder / "no.toml"
    assert (
        refused(1, "up", path, here.mount_point)
        == f"{path}: cannot be read: No such file or directory"
    )
    assert "cannot be read" in refused(1, "check", here.folder)


def test_check_finds_nothing_wrong_and_touches_nothing(here: Place):
    before = sorted(here.folder.iterdir())
    assert ok("check", here.toml) == ""
    assert sorted(here.folder.iterdir()) == before


# Loop devices.


@pytest.mark.loop
def test_attach_prints_a_node_and_detach_frees_it(here: Place):
    here.up()
    node = here.ok("attach", "home").strip()
    queue = Path("/sys/block", Path(node).name)
    assert (queue / "queue/logical_block_size").read_text() == "4096\n"
    assert (queue / "loop/dio").read_text() == "1\n"
    assert node in here.ok("ls").splitlines()[-1]
    assert json.loads(here.ok("ls", "--json"))["blockdevices"][-1]["fusedm"]["loop"] == node
    with open(node, "rb"):
        said = refused(1, "detach", "home", env=here.env)
        assert said.startswith(f"{node} is held by ")
        assert f"(pid {os.getpid()})" in said
        assert f"{node} is held by " in refused(1, "down", here.mount_point)
    assert here.ok("detach", "home") == ""
    assert refused(1, "detach", "home", env=here.env) == "'home' is not attached to a loop device"
    assert "'nobody' is not a device" in refused(1, "attach", "nobody", env=here.env)
    here.ok("attach", "ufs0")
    done = run("down", here.mount_point)
    assert done.returncode == 0
    assert "detached /dev/loop" in done.stderr

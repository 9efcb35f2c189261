"""A Ceph of one monitor and one OSD, on 127.0.0.1: started, hurt, stopped; nothing is left.

The programs are unpacked in build/ceph by scripts/ceph.sh, which also starts one by hand. No root,
no systemd, no manager. BlueStore lies on a sparse file in the cluster's folder.
"""

import base64
import json
import os
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fusedm.host import doctor
from tests.helpers.ceph.admin import CephError, mon_command

CACHE = Path(__file__).resolve().parents[3] / "build/ceph"
POOL = "rbd"
#: Four times what a start takes on two busy cores.
START_SECONDS = 60
STOP_SECONDS = 20
#: Another may have taken the monitor's port between choosing and listening.
TRIES = 5

#: Small and quick: no copy of anything, nothing waits for more proposals, little cache.
CONF = """\
[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{port}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr1 = false
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
keyring = {folder}/keyring
log file = {folder}/$name.log
mon cluster log file = {folder}/cluster.log
log to stderr = false
err to stderr = false
admin socket =
run dir = {folder}
paxos propose interval = 0.05
mon allow pool size one = true
mon allow pool delete = true
mon data = {folder}/mon
osd data = {folder}/osd
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd objectstore = bluestore
bluestore block size = 8589934592
bluestore cache autotune = false
bluestore cache size = 67108864
osd memory target = 939524096
osd class load list = *
osd class default list = *
osd class dir = {classes}
erasure code dir = {plugins}
plugin dir = {libraries}
osd fast shutdown = true
{more}
[client]
log file =
objecter tick interval = 0.5
"""


def problem() -> str | None:
    """Why no cluster can be started here; None if one can."""
    if not (CACHE / "complete").exists():
        return "the programs of Ceph are not here: scripts/ceph.sh fetch"
    if shutil.which("setpriv") is None:
        return "setpriv is not installed: apt-get install util-linux"
    found = doctor.librbd(doctor.Machine())
    return None if found.ok else found.text


class Cluster:
    """A cluster in a folder of its own.

    dies_with_us: both programs are killed with the thread that started them.
    """

    def __init__(self, folder: Path, dies_with_us: bool = True) -> None:
        self.folder = folder
        self.conf = folder / "ceph.conf"
        self.dies_with_us = dies_with_us
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, more: str = "") -> None:
        """Make the cluster and its pool; more lines are for the conf's first section."""
        self.folder.mkdir(parents=True)
        for last in reversed(range(TRIES)):
            try:
                self._make_monitor(more)
                break
            except CephError:
                self.kill("mon")
                if not last:
                    raise
        osd_id = uuid.uuid4()
        self.command("osd new", uuid=str(osd_id))
        (self.folder / "osd").mkdir()
        self._run("ceph-osd", "--mkfs", "-i", "0", "--osd-uuid", str(osd_id))
        self.start_osd()
        self.command("osd pool create", pool=POOL)
        self.command("osd pool application enable", pool=POOL, app="rbd")
        self.command("osd set", key="noout")

    def _make_monitor(self, more: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        libraries = _libraries()
        fields = {
            "fsid": uuid.uuid4(),
            "port": port,
            "folder": self.folder,
            "classes": libraries / "rados-classes",
            "plugins": libraries / "ceph/erasure-code",
            "libraries": libraries / "ceph",
            "more": more,
        }
        self.conf.write_text(CONF.format(**fields))
        keyring = self.folder / "keyring"
        keyring.write_text(
            _entry("mon.", mon="allow *")
            + _entry("client.admin", mon="allow *", osd="allow *", mgr="allow *", mds="allow *")
            + _entry("osd.0", mon="allow profile osd", osd="allow *", mgr="allow profile osd")
        )
        keyring.chmod(0o600)
        shutil.rmtree(self.folder / "mon", ignore_errors=True)
        monmap = str(self.folder / "monmap")
        address = f"[v2:127.0.0.1:{port}]"
        self._run(
            *("monmaptool", "--create", "--clobber", "--addv", "a", address),
            *("--fsid", str(fields["fsid"]), monmap),
        )
        self._run("ceph-mon", "--mkfs", "-i", "a", "--keyring", str(keyring), "--monmap", monmap)
        self._spawn("mon", "ceph-mon", "-i", "a")
        self._until(lambda: self.command("mon stat"), "mon")

    def start_osd(self) -> None:
        """Start the OSD and wait until it serves."""
        before = self._osd_boots()
        self._spawn("osd", "ceph-osd", "-i", "0")
        self._until(lambda: self._is_up_since(before), "osd")
        if before:
            # Asks all placement groups, which wait until what their last OSD promised is over.
            self._run("rados", "ls", "--pool", POOL)

    def _osd_boots(self) -> object:
        return self._osd()["up_from"]

    def _osd(self) -> dict[str, object]:
        dump = json.loads(self.command("osd dump", format="json"))
        return dict(dump["osds"][0])

    def _is_up_since(self, before: object) -> None:
        osd = self._osd()
        if not osd["up"] or osd["up_from"] == before:
            raise CephError("the OSD is not up")

    def signal(self, name: str, number: int) -> None:
        """Send a signal to mon or osd."""
        os.kill(self._pid(name), number)

    @contextmanager
    def hung(self, name: str = "osd") -> Iterator[None]:
        """Keep mon or osd from running."""
        self.signal(name, signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(name, signal.SIGCONT)

    def kill(self, name: str) -> None:
        """End mon or osd at once, as a machine's loss of power does."""
        self._end(name, signal.SIGKILL)

    def stop(self) -> None:
        """End both and remove the folder."""
        for name in ("osd", "mon"):
            self._end(name, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def command(self, prefix: str, **arguments: object) -> bytes:
        """What the monitor answers to a command of ceph(8)."""
        return mon_command(self.conf, {"prefix": prefix, **arguments})

    def rbd(self, *words: object, data: bytes | None = None) -> str:
        """Run rbd(8) as the admin and give what it prints."""
        return self.rbd_bytes(*words, data=data).decode()

    def rbd_bytes(self, *words: object, data: bytes | None = None) -> bytes:
        """The same, as bytes."""
        return self._run("rbd", *map(str, words), data=data)

    def environ(self) -> dict[str, str]:
        """The environment that programs of Ceph need."""
        libraries = _libraries()
        folders = [libraries, libraries / "ceph", CACHE / "root/lib" / libraries.name]
        path = ":".join(map(str, folders))
        return os.environ | {"LD_LIBRARY_PATH": path, "CEPH_CONF": str(self.conf)}

    def _run(self, name: str, *words: str, data: bytes | None = None) -> bytes:
        done = subprocess.run(
            [_program(name), *words, "-c", str(self.conf)],
            input=data,
            stdin=subprocess.DEVNULL if data is None else None,
            env=self.environ(),
            capture_output=True,
            timeout=START_SECONDS,
        )
        if done.returncode:
            raise CephError(f"{name} {' '.join(words)}: {done.stderr.decode()[-2000:]}")
        return done.stdout

    def _spawn(self, name: str, program: str, *words: str) -> None:
        command = [_program(program), "-f", *words, "-c", str(self.conf)]
        if self.dies_with_us:
            command = ["setpriv", "--pdeathsig", "KILL", *command]
        with (self.folder / f"{name}.out").open("ab") as out:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=self.environ(),
                start_new_session=True,
            )
        self._running[name] = process
        (self.folder / f"{name}.pid").write_text(str(process.pid))

    def _until(self, what: Callable[[], object], name: str) -> None:
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                what()
                return
            except CephError:
                over = time.monotonic() > end
                if over or self._running[name].poll() is not None:
                    said = (self.folder / f"{name}.out").read_text()[-2000:]
                    raise CephError(f"{name} does not come up: {said}") from None
            time.sleep(0.05)

    def _pid(self, name: str) -> int:
        return int((self.folder / f"{name}.pid").read_text())

    def _end(self, name: str, number: int) -> None:
        with suppress(FileNotFoundError, ProcessLookupError):
            pid = self._pid(name)
            # One that is another's by now is left alone.
            if str(self.conf) in Path(f"/proc/{pid}/cmdline").read_text():
                os.kill(pid, number)
        if process := self._running.pop(name, None):
            process.wait(STOP_SECONDS)
        (self.folder / f"{name}.pid").unlink(missing_ok=True)


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """A cluster in a new folder, gone afterwards."""
    made = Cluster(folder)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def _libraries() -> Path:
    found = sorted((CACHE / "root/usr/lib").glob("*/rados-classes"))
    return found[0].parent if found else Path("/usr/lib")


def _program(name: str) -> str:
    unpacked = CACHE / "root/usr/bin" / name
    return str(unpacked) if unpacked.exists() else name


def _entry(name: str, **caps: str) -> str:
    # Type 1, AES; seconds and nanoseconds since the epoch; length; the key.  Source: CryptoKey.
    key = struct.pack("<HIIH", 1, int(time.time()), 0, 16) + secrets.token_bytes(16)
    lines = [f'\tcaps {service} = "{allowed}"' for service, allowed in caps.items()]
    return "\n".join([f"[{name}]", f"\tkey = {base64.b64encode(key).decode()}", *lines]) + "\n"


def main(verb: str, folder: str = "") -> None:
    """What scripts/ceph.sh asks for: start FOLDER, stop FOLDER or run."""
    if verb == "stop":
        Cluster(Path(folder)).stop()
    elif verb == "start":
        made = Cluster(Path(folder), dies_with_us=False)
        try:
            made.start()
        except BaseException:
            made.stop()
            raise
        print(made.conf)
    else:
        with tempfile.TemporaryDirectory(prefix="ceph-") as base, cluster(Path(base, "c")) as made:
            print(f"store = rbd:{POOL}/IMAGE?conf={made.conf}\nCtrl-C stops it")
            with suppress(KeyboardInterrupt):
                signal.pause()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (CephError, OSError) as error:
        sys.exit(f"ceph: {error}")

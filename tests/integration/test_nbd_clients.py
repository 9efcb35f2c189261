"""Others' clients over the NBD server of a stack without a mount: no FUSE is there to be needed."""

import datetime
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.helpers.cli import ok, refused, run, wait_until
from tests.helpers.nbd import MIB, TOML

TIMEOUT_SECONDS = 60
#: nbdsh takes the first Python it finds; only that of the distribution has libnbd.
ENVIRON = {**os.environ, "PATH": "/usr/bin:/bin"}
HOLE = {"offset": MIB, "length": 7 * MIB, "type": 3, "description": "hole,zero"}


class Place:
    """A stack without a mount, by its socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "nbd.sock"
        (folder / "stack.toml").write_text(TOML)
        self.env = {"FUSEDM_STACK": str(self.socket)}

    def up(self) -> None:
        """Bring it up."""
        toml = self.folder / "stack.toml"
        assert ok("up", "--no-mount", toml, "--nbd", self.socket) == ""

    def uri(self, name: str) -> str:
        """What clients are given."""
        return f"nbd+unix:///{name}?socket={self.socket}"

    def qemu(self, name: str) -> str:
        """What QEMU is given."""
        return f"nbd:unix:{self.socket}:exportname={name}"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    it = Place(tmp_path)
    it.up()
    yield it
    run("down", "--force", it.socket)
    assert not it.socket.exists()


def done(*words: str | Path) -> str:
    """What a program says that has to succeed."""
    result = subprocess.run(
        [str(word) for word in words],
        capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False, env=ENVIRON,
    )  # fmt: skip
    assert result.returncode == 0, result
    return result.stdout


def image(folder: Path) -> Path:
    """1 MiB of noise, and 7 of nothing."""
    path = folder / "image"
    path.write_bytes(os.urandom(MIB))
    os.truncate(path, 8 * MIB)
    return path


def test_nbdinfo_lists_every_export(place: Place):
    told = json.loads(done("nbdinfo", "--json", "--list", place.uri("")))
    exports = {export["export-name"]: export for export in told["exports"]}
    assert set(exports) == {"d0", "d1", "d2", "fixed", "m", "bad", "v"}
    assert exports["v"]["block_size_minimum"] == 4096
    assert exports["d0"]["block_size_minimum"] == 512
    assert exports["d0"]["can_multi_conn"]
    assert exports["fixed"]["is_read_only"]
    assert exports["d0"]["contexts"] == ["base:allocation"]


@pytest.mark.parametrize("name", ["d0", "v"])
def test_nbdcopy_copies_both_ways_and_nbdinfo_maps_the_holes(place: Place, name: str):
    noise, back = image(place.folder), place.folder / "back"
    done("nbdcopy", noise, place.uri(name))
    done("nbdcopy", place.uri(name), back)
    assert back.read_bytes() == noise.read_bytes()
    extents = json.loads(done("nbdinfo", "--json", "--map", place.uri(name)))
    assert extents[-1] == HOLE


def test_qemu_img_converts_and_compares(place: Place):
    noise = image(place.folder)
    raw = ("-f", "raw")
    done("qemu-img", "convert", "-n", *raw, "-O", "raw", noise, place.qemu("v"))
    done("qemu-img", "compare", *raw, "-F", "raw", noise, place.qemu("v"))
    told = json.loads(done("qemu-img", "map", *raw, "--output=json", place.qemu("v")))
    assert [extent["length"] for extent in told if extent["zero"]] == [7 * MIB]


def test_qemu_io_writes_anywhere(place: Place):
    script = ["write -P 5 1000 3000", "read -P 5 1000 3000", "write -P 6 0 8M", "discard 1M 1M"]
    script += ["read -P 0 1M 1M", "write -z -u 64k 64k", "read -P 0 64k 64k", "write -f 0 512"]
    script += ["write -z 128k 64k", "read -P 0 128k 64k", "flush", "aio_read -q 0 8M", "aio_flush"]
    steps = [word for line in script for word in ("-c", line)]
    told = done("qemu-io", "-f", "raw", *steps, place.qemu("d0"))
    assert "failed" not in told


def test_nbdsh_asks_for_whatever_it_likes(place: Place):
    script = (
        "h.set_strict_mode(0); h.add_meta_context('base:allocation'); "
        f"h.connect_uri('{place.uri('m')}'); h.pwrite(b'x' * 4096, 8192, nbd.CMD_FLAG_FUA); "
        "assert h.pread(4096, 8192) == b'x' * 4096; h.trim(4096, 8192); "
        "h.zero(100, 50, nbd.CMD_FLAG_NO_HOLE); h.cache(1000, 0); h.flush(); found = []; "
        "h.block_status(65536, 0, lambda *told: found.append(told)); assert found; h.shutdown()"
    )
    done("nbdsh", "-c", script)


def test_fio_verifies_what_it_writes_over_several_connections(place: Place):
    job = ["--name=x", "--ioengine=nbd", f"--uri={place.uri('v')}", "--rw=randrw", "--bs=4k"]
    size = ["--iodepth=16", "--size=1M", "--numjobs=4", "--offset_increment=1M"]
    done("fio", *job, *size, "--verify=crc32c", f"--aux-path={place.folder}")


def test_a_client_that_is_killed_leaves_nothing_in_use(place: Place):
    script = (
        f"h.connect_uri('{place.uri('v')}'); print('in', flush=True); import time; time.sleep(99)"
    )
    with subprocess.Popen(
        ["nbdsh", "-c", script], stdout=subprocess.PIPE, text=True, env=ENVIRON
    ) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "in\n"
        assert "in use" in refused(1, "view", "remove", "v", env=place.env)
        client.send_signal(signal.SIGKILL)
    ok("view", "remove", "v", env=place.env)


def test_what_is_open_keeps_a_stack_up(place: Place):
    script = f"h.connect_uri('{place.uri('v')}'); print('in', flush=True); input()"
    with subprocess.Popen(
        ["nbdsh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRON,
    ) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "in\n"
        assert "is held by an NBD client" in run("down", place.socket).stderr
        assert "held" not in run("down", "--force", place.socket).stderr
        client.kill()
    assert not place.socket.exists()


# Verbs.


def test_verbs_work_without_a_mount_and_those_that_need_one_say_so(place: Place):
    rows = json.loads(ok("ls", "--json", env=place.env))["blockdevices"]
    assert {row["name"]: row["path"] for row in rows}["v"] == place.uri("v")
    told = json.loads(ok("status", "--json", env=place.env))
    assert (told["mount_point"], told["nbd"]) == (None, [str(place.socket)])
    ok("dm", "suspend", "m", env=place.env)
    ok("dm", "resume", "m", env=place.env)
    ok("explain", "v", "0", "4096", env=place.env)
    ok("verify", "v", env=place.env)
    for verb in ("attach", "detach"):
        assert "has no mount" in run(verb, "v", env=place.env).stderr
    ok("disk", "add", "new", "--store", "memory:", "--size", "1MiB", env=place.env)
    assert (
        json.loads(done("nbdinfo", "--json", place.uri("new")))["exports"][0]["export-size"] == MIB
    )


def test_more_servers_are_begun_listed_and_ended(place: Place):
    other = place.folder / "other.sock"
    told = ok("nbd", "v", "--socket", other, "--read-only", env=place.env)
    assert told == f"nbd+unix:///v?socket={other}\n"
    info = json.loads(done("nbdinfo", "--json", told.strip()))
    assert info["exports"][0]["is_read_only"]
    listed = ok("nbd", "--list", env=place.env).splitlines()
    assert [line.split() for line in listed[1:]] == [
        [str(place.socket), "all", "0", "0", "0"],
        [str(other), "v", "1", "0", "0"],
    ]
    assert "listens there" in refused(1, "nbd", "--socket", other, env=place.env)
    ok("nbd", "--stop", "--socket", other, env=place.env)
    assert not other.exists()
    assert "no server" in refused(1, "nbd", "--stop", "--socket", other, env=place.env)


def test_what_makes_no_sense_is_refused(place: Place):
    for words in (
        (),
        ("--socket", "a", "--tcp", "b"),
        ("--tcp", "h:x"),
        ("--tcp", ":0", "--tls-ca", "c"),
    ):
        refused(2, "nbd", *words, env=place.env)
    refused(2, "up", place.folder / "stack.toml")
    refused(2, "up", place.folder / "stack.toml", "--no-mount")
    refused(2, "up", place.folder / "stack.toml", place.folder, "--no-mount", "--nbd", "x")
    text = refused(1, "nbd", "--tcp", ":0", "--tls-cert", "c", "--tls-key", "k", env=place.env)
    assert "No such file" in text
    again = ("up", "--no-mount", place.folder / "stack.toml", "--nbd", place.socket)
    assert "another fusedm daemon" in refused(1, *again)


def test_the_socket_of_a_killed_daemon_is_replaced(place: Place):
    pid = json.loads(ok("status", "--json", env=place.env))["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{pid}").exists())
    assert place.socket.exists()
    place.up()
    done("nbdinfo", place.uri("v"))


def test_a_stack_comes_up_where_pyfuse3_cannot_be_loaded(tmp_path: Path):
    for name in ("pyfuse3", "_pyfuse3"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not here')\n")
    place = Place(tmp_path)
    env = {"PYTHONPATH": str(tmp_path)}
    ok("up", "--no-mount", tmp_path / "stack.toml", "--nbd", place.socket, env=env)
    done("nbdinfo", place.uri("v"))
    assert run("down", place.socket).returncode == 0


# TLS and TCP.


def certificates(folder: Path) -> None:
    """ca-cert.pem, and certificates that it vouches for, as libnbd names the files."""
    day = datetime.timedelta(days=1)
    now = datetime.datetime.now(datetime.UTC)
    authority = ec.generate_private_key(ec.SECP256R1())
    own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    folder.mkdir()

    def write(name: str, subject: x509.Name, key: ec.EllipticCurvePrivateKey, is_ca: bool) -> None:
        names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(own)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + day)
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(authority, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        (folder / f"{name}-cert.pem").write_bytes(certificate.public_bytes(pem))
        secret = key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / f"{name}-key.pem").write_bytes(secret)

    write("ca", own, authority, is_ca=True)
    for name in ("server", "client"):
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        write(name, subject, ec.generate_private_key(ec.SECP256R1()), is_ca=False)


@pytest.mark.parametrize("vouched", [False, True])
def test_tls_is_spoken_with_whom_the_authority_vouches_for(place: Place, vouched: bool):
    pki = place.folder / "pki"
    certificates(pki)
    words = ["--tls-cert", pki / "server-cert.pem", "--tls-key", pki / "server-key.pem"]
    words += ["--tls-ca", pki / "ca-cert.pem"] if vouched else []
    uri = ok("nbd", "v", "--tcp", ":0", *words, env=place.env).strip()
    assert uri.startswith("nbds://127.0.0.1:")
    noise, back = image(place.folder), place.folder / "back"
    secret = f"{uri}?tls-certificates={pki}"
    done("nbdcopy", noise, secret)
    done("nbdcopy", secret, back)
    assert back.read_bytes() == noise.read_bytes()
    plain = subprocess.run(
        ["nbdinfo", uri.replace("nbds:", "nbd:")], capture_output=True, check=False, timeout=60
    )
    assert plain.returncode != 0
    for name in ("client-cert.pem", "client-key.pem"):
        (pki / name).unlink()
    stranger = subprocess.run(["nbdinfo", secret], capture_output=True, check=False, timeout=60)
    assert (stranger.returncode != 0) is vouched


def test_a_key_that_is_none_is_refused_without_a_byte_of_it(place: Place):
    pki = place.folder / "pki"
    certificates(pki)
    (pki / "server-key.pem").write_text("SECRETSECRET")
    words = ("--tls-cert", pki / "server-cert.pem", "--tls-key", pki / "server-key.pem")
    text = refused(1, "nbd", "--tcp", ":0", *words, env=place.env)
    assert "server-key.pem" in text
    assert "SECRET" not in text


def test_tcp_that_others_can_reach_without_tls_is_warned_of(place: Place):
    told = run("nbd", "--tcp", "0.0.0.0:0", env=place.env)  # it is what is warned of
    assert told.returncode == 0
    assert "without TLS" in told.stderr

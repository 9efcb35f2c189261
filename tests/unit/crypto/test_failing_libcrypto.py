"""Compiled ciphers over a libcrypto that fails, and what is left of them and of their keys."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fusedm.block import MODES
from tests.helpers.memory_search import find_key
from tests.helpers.preload import compiled

#: In a process with the library that fails: made() is a cipher, told(name) a variable of it.
SETTING = """
import ctypes, errno, gc, os, sys, threading
from fusedm.block import MODES, CryptoConfig, CryptoKey
from fusedm.block.errors import CryptoError
from fusedm.crypto.ciphers import make_cipher, make_software

mode = sys.argv[1]
library = ctypes.CDLL(os.environ["LD_PRELOAD"])
data = memoryview(bytes(range(256)) * 16)

def told(name):
    return ctypes.c_int.in_dll(library, name)

def made():
    config = CryptoConfig(mode, 512, 8)
    return make_cipher(CryptoKey("k", config, bytes(range(config.key_size))))

def through(transform):
    result = memoryview(bytearray(4096))
    transform(9, data, result)
    return bytes(result)

def errno_of(call, *arguments):
    try:
        call(*arguments)
    except CryptoError as error:
        return error.errno
    raise AssertionError("nothing failed")
"""

TRANSFORMS_FAIL = """
wanted = through(made().encrypt)
for name in sys.argv[2:]:
    cipher = made()
    told(name).value = 1
    assert errno_of(through, cipher.encrypt) == errno_of(through, cipher.decrypt) == errno.EIO, name
    told(name).value = 0
    assert through(cipher.encrypt) == wanted, name
    assert through(cipher.decrypt) != wanted, name
    told(name).value = 1  # Now that there are contexts in the pools.
    if name in ("fail_init", "fail_update"):
        assert errno_of(through, cipher.encrypt) == errno.EIO, name
    told(name).value = 0
    assert through(cipher.encrypt) == wanted, name
    del cipher
assert told("contexts").value == 0
"""

MAKING_FAILS = """
for name in ("fail_new", "fail_init", "fail_fetch"):
    told(name).value = 1
    assert errno_of(made) == (errno.ENOPKG if name == "fail_fetch" else errno.EINVAL), name
    told(name).value = 0
assert told("contexts").value == 0
"""

MANY_THREADS = """
cipher = made()
masters = told("contexts").value
begin = threading.Barrier(24)

def work():
    begin.wait()
    for _ in range(50):
        through(cipher.encrypt)

for _ in range(3):
    threads = [threading.Thread(target=work) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # What one direction keeps: at most 16 times what is half of the masters.
    assert masters < told("contexts").value <= masters + 16 * masters // 2
del cipher
assert told("contexts").value == 0
"""

#: Says when the cipher is made, and is told when it may go.
KEEPS_A_KEY = """
config = CryptoConfig(mode, 512, 8)
raw = bytearray(config.key_size)
for index in range(config.key_size):
    raw[index] = index * 7 % 256 ^ 0x5A
key = CryptoKey("k", config, raw)
raw[:] = bytes(len(raw))
cipher = make_cipher(key)
through(cipher.encrypt)
key.wipe()
print("made", flush=True)
input()
del cipher
print("gone", flush=True)
input()
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(
        "libcrypto_faults.c", tmp_path_factory.mktemp("library"), "-Wl,--no-as-needed", "-lcrypto"
    )


def run(library: Path, code: str, *words: str) -> None:
    """Run it; what it asserts must be so."""
    environ = {**os.environ, "LD_PRELOAD": str(library)}
    subprocess.run([sys.executable, "-c", SETTING + code, *words], env=environ, check=True)


every_mode = pytest.mark.parametrize("mode", MODES)


@every_mode
def test_a_transform_that_libcrypto_fails_is_an_error_and_the_next_one_is_right(
    library: Path, mode: str
) -> None:
    names = ["fail_new", "fail_copy", "fail_update"]
    if MODES[mode].key_size != 32:  # The others set no IV: they call the block cipher alone.
        names.append("fail_init")
    run(library, TRANSFORMS_FAIL, mode, *names)


@every_mode
def test_a_cipher_that_libcrypto_cannot_make_is_refused_and_leaves_nothing(
    library: Path, mode: str
) -> None:
    run(library, MAKING_FAILS, mode)


@every_mode
def test_contexts_are_kept_for_some_threads_only_and_go_with_the_cipher(
    library: Path, mode: str
) -> None:
    run(library, MANY_THREADS, mode)


@pytest.mark.parametrize("mode", ["AES-256-XTS", "AES-128-CBC-ESSIV", "Adiantum"])
def test_nothing_of_a_key_is_left_in_memory_when_its_cipher_is_gone(
    library: Path, mode: str
) -> None:
    """Not of SM4: its key schedule does not begin with the key."""
    key = bytes(index * 7 % 256 ^ 0x5A for index in range(MODES[mode].key_size))
    environ = {**os.environ, "LD_PRELOAD": str(library)}
    with subprocess.Popen(
        [sys.executable, "-c", SETTING + KEEPS_A_KEY, mode],
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "made\n"
        assert find_key(process.pid, key)
        print("go", file=process.stdin, flush=True)
        assert process.stdout.readline() == "gone\n"
        assert find_key(process.pid, key) == []
        print("end", file=process.stdin, flush=True)

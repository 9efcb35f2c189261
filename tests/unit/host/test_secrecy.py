"""What a process that holds keys leaves in its memory, and whether it can be dumped."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.memory_search import find_key


def run(script: str, **environ: str) -> str:
    """Run a script in a process of its own; what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, **environ},
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


#: Makes the key of what is in no source text, in all the ways in which Python copies things about.
USING = """
import base64, gc, json, re, sys, threading
from fusedm.host.memory import wipe_freed, wipe_stack
if sys.argv[1:] != ["not"]:
    wipe_freed()
    wipe_freed()
def use():
    key = bytes(number ^ 0x5A for number in range(64))
    text = "0 8 crypt aes-xts-plain64 " + key.hex() + " 0 d 0"
    told = json.dumps({"table": text, "raw": base64.b64encode(key).decode()}).encode()
    buffer = bytearray()
    for at in range(0, len(told), 7):
        buffer += told[at : at + 7]
    heard = json.loads(bytes(buffer))
    words = re.findall(r"\\S+", heard["table"])
    assert bytes.fromhex(words[4]) == base64.b64decode(heard["raw"])
    long = bytes(buffer) * 3000
    try:
        raise ValueError(words)
    except ValueError:
        pass
    if sys.argv[1:] != ["not"]:
        wipe_stack()
use()
thread = threading.Thread(target=use)
thread.start()
thread.join()
gc.collect()
print("done", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root looks into another process")
@pytest.mark.parametrize("words", [[], ["not"]])
def test_what_python_has_freed_is_overwritten(words: list[str]) -> None:
    command = [sys.executable, "-c", USING, *words]
    # Or the loader would save registers on the stack wherever it looks a function up at first.
    environ = {**os.environ, "LD_BIND_NOW": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
        found = find_key(process.pid, bytes(number ^ 0x5A for number in range(64)))
        # Without it, the search finds something: so it can.
        assert bool(found) == bool(words)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 0


def test_memory_from_before_and_after_is_used_and_given_back_alike() -> None:
    script = """
import gc, json, threading
from fusedm.host.memory import wipe_freed
old = [bytes(size) for size in range(0, 3000, 7)] + [bytearray(1 << 20)]
wipe_freed()
new = [bytes(size) for size in range(0, 3000, 7)] + [bytearray(1 << 20)]
for sizes in old, new:
    sizes.append(bytearray())
    for number in range(3000):
        sizes[-1] += bytes([number % 256]) * (number % 50)
        if number % 10 == 0:
            del sizes[-1][: len(sizes[-1]) // 3]
assert old[-1] == new[-1]
big = bytearray(b"x" * 5000)
del big[2000:]
assert big == b"x" * 2000
big += b"y" * 10
assert big == b"x" * 2000 + b"y" * 10
threads = [threading.Thread(target=lambda: json.loads(json.dumps([list(range(1000))] * 50)))
           for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
del old, new
gc.collect()
try:
    bytearray(1 << 62)
except MemoryError:
    print("refused")
"""
    assert run(script) == "refused\n"


STATE = """
import json, resource, subprocess, sys
from fusedm.host import secrecy
def state():
    with open("/proc/self/coredump_filter"):
        pass
    import ctypes
    return [ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE)[0]]
limit = resource.getrlimit(resource.RLIMIT_CORE)
resource.setrlimit(resource.RLIMIT_CORE, (min(limit[1], 4096) if limit[1] >= 0 else 4096, limit[1]))
told = [state()]
secrecy.keep_secrets()
told.append(state())
secrecy.keep_secrets()
told.append(state())
if sys.argv[1:] == ["allow"]:
    secrecy.allow_core()
    secrecy.keep_secrets()
else:
    secrecy.give_core_limit_back()
told.append(state())
print(json.dumps(told))
"""


def test_a_process_that_holds_keys_is_not_dumped() -> None:
    before, after, again, given_back = json.loads(run(STATE))
    assert before[0] == 1
    assert after == again == [0, 0]
    assert given_back == [0, before[1]]


def test_who_wants_a_core_dump_gets_one() -> None:
    before, after, _, allowed = json.loads(run(STATE.replace("sys.argv[1:]", "['allow']")))
    assert after == [0, 0]
    assert allowed == before
    before, *rest = json.loads(run(STATE, FUSEDM_ALLOW_CORE="1"))
    assert rest == [before] * 3


def test_the_limit_that_others_have_is_left() -> None:
    before = resource.getrlimit(resource.RLIMIT_CORE)
    run(STATE)
    assert resource.getrlimit(resource.RLIMIT_CORE) == before
    assert Path("/proc/self/status").exists()


def test_a_variable_that_a_key_came_from_is_overwritten_where_the_kernel_shows_it() -> None:
    script = """
import os
from fusedm.host.secrecy import forget_variables
forget_variables(["A_KEY", "NO_SUCH"])
with open("/proc/self/environ", "rb") as file:
    print("A_KEY" in os.environ, os.environ["ANOTHER"], b"s3cret" in file.read())
"""
    assert run(script, A_KEY="s3cret", ANOTHER="kept") == "False kept False\n"

"""dmsetup beside the real one: .venv/bin/python -m tests.bench.dmsetup [DEVICES]

Prints a JSON line for each verb: the median of its wall time in milliseconds over the rounds, that
of the real dmsetup's verb in the same rounds, and the ratio. Without device mapper in the kernel
the real one only starts, asks and is told so: the least it can take. Then a line for the first
create, of a daemon that is not there, and one for DEVICES (500) created, listed with all columns
and removed. Needs root, and the real one in /usr/sbin. Never collected by pytest.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.helpers.dmsetup import Dmsetup, dmsetup_in

REAL = "/usr/sbin/dmsetup"
ROUNDS = 40
FIRST_ROUNDS = 7
TABLE = ("--table", "0 8192 zero")

#: Verbs on a device `a` that is there, in the order of each round; b is made and removed.
VERBS = (
    *(("version",), ("ls",), ("info", "a"), ("info", "-c", "-o", "name,open"), ("status", "a")),
    *(("table", "a"), ("deps", "a"), ("create", "b", *TABLE), ("load", "b", *TABLE)),
    *(("suspend", "b"), ("resume", "b"), ("message", "a", "0", "@cancel_deferred_remove")),
    *(("rename", "b", "c"), ("remove", "c"), ("targets",), ("help",)),
)


def milliseconds(run: Callable[[], object]) -> float:
    """How long something takes."""
    begin = time.perf_counter()
    run()
    return (time.perf_counter() - begin) * 1e3


def quietly(dmsetup: Dmsetup, program: str, words: Sequence[str]) -> Callable[[], object]:
    """A call whose output goes nowhere; ours has to succeed."""

    def run() -> None:
        nothing = subprocess.DEVNULL
        command = [program, *words]
        done = subprocess.call(
            command, env=dmsetup.environ, stdin=nothing, stdout=nothing, stderr=nothing
        )
        assert program == REAL or done == 0, command

    return run


def verbs(dmsetup: Dmsetup, shim: str) -> None:
    """Each verb in turn with the real one."""
    dmsetup.ok("create", "a", *TABLE)
    times: dict[str, tuple[list[float], list[float]]] = {
        " ".join(words): ([], []) for words in VERBS
    }
    for _ in range(ROUNDS):
        for words in VERBS:
            for program, of_it in zip((shim, REAL), times[" ".join(words)], strict=True):
                of_it.append(milliseconds(quietly(dmsetup, program, words)))
    for text, (own, real) in times.items():
        ours, theirs = statistics.median(own), statistics.median(real)
        told = {"verb": text, "ms": ours, "real_ms": theirs, "ratio": ours / theirs}
        print(json.dumps({k: round(v, 2) if isinstance(v, float) else v for k, v in told.items()}))
    dmsetup.ok("remove", "a")
    # The real one has made it, to ask the kernel by.
    dmsetup.node("control").unlink(missing_ok=True)


def first_create(dmsetup: Dmsetup) -> None:
    """The create that starts the daemon."""
    times = []
    for _ in range(FIRST_ROUNDS):
        times.append(milliseconds(lambda: dmsetup.ok("create", "a", *TABLE)))
        dmsetup.ok("remove", "a")
    print(json.dumps({"verb": "the first create", "ms": round(statistics.median(times), 1)}))


def many(dmsetup: Dmsetup, count: int) -> None:
    """A script that makes, lists and removes many devices."""
    numbers = f"$(seq {count})"
    steps = {
        "create": f"for n in {numbers}; do dmsetup create d$n --table '0 8192 zero'; done",
        "list": "dmsetup info -c -o all,open,read_ahead,blkdevname,names_using_dev",
        "remove": f"for n in {numbers}; do dmsetup remove d$n; done",
    }
    seconds = {
        step: round(milliseconds(lambda text=text: dmsetup.script(text)) / 1e3, 2)
        for step, text in steps.items()
    }
    print(json.dumps({"devices": count, "seconds": seconds, "total": sum(seconds.values())}))


def main() -> None:
    """All of it, in a folder that is removed again."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    with (
        tempfile.TemporaryDirectory(prefix="fusedm-bench-") as folder,
        dmsetup_in(Path(folder)) as dmsetup,
    ):
        verbs(dmsetup, str(Path(folder) / "shim/dmsetup"))
        first_create(dmsetup)
        many(dmsetup, count)


if __name__ == "__main__":
    main()

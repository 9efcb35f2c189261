"""How fast ciphers are: .venv/bin/python -m tests.bench.modes [MODE | CIPHER ...]

Modes are contexts', ciphers are words of crypt's tables. Prints a JSON line for each, its unit,
length of call and direction: MiB per second of processor time, the median and the best of several
runs. Others on the machine cost caches only. Never collected by pytest.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

from fusedm.block import MODES, CryptoConfig, CryptoKey
from fusedm.block.plan import Cipher
from fusedm.crypto import make_sector_cipher, parse_cipher_spec
from fusedm.crypto.ciphers import make_cipher

CIPHERS = ("aes-xts-plain64", "aes-cbc-essiv:sha256", "aes-cbc-plain64", "aes:2-xts-plain64")
UNIT_SIZES = (4096, 512)
CALL_BYTES = (4 << 10, 128 << 10, 1 << 20)
RUNS = 5
RUN_SECONDS = 0.05


def mib_per_second(call: Callable[[], None], call_bytes: int) -> list[float]:
    """The speed of each run; a run is as many calls as fill its time."""
    speeds = []
    for _ in range(RUNS):
        calls, begin = 0, time.thread_time()
        while (took := time.thread_time() - begin) < RUN_SECONDS:
            call()
            calls += 1
        speeds.append(calls * call_bytes / took / (1 << 20))
    return sorted(speeds)


def cipher_of(name: str, unit: int) -> Cipher:
    """A mode's, or one of crypt's with its largest key."""
    if name in MODES:
        config = CryptoConfig(name, unit, 8)
        return make_cipher(CryptoKey("bench", config, bytes(range(config.key_size))))
    spec = parse_cipher_spec(name)
    return make_sector_cipher(spec, memoryview(bytes(range(spec.key_sizes[-1]))), unit, False)


def measure(name: str, unit: int, call_bytes: int) -> None:
    """Print both directions."""
    cipher = cipher_of(name, unit)
    src, dst = memoryview(bytes(call_bytes)), memoryview(bytearray(call_bytes))
    for direction in ("encrypt", "decrypt"):
        call = partial(getattr(cipher, direction), 1000, src, dst)
        speeds = mib_per_second(call, call_bytes)
        line = {
            "cipher": name,
            "unit": unit,
            "call_bytes": call_bytes,
            "direction": direction,
            "mib_per_s": round(statistics.median(speeds), 1),
            "best_mib_per_s": round(speeds[-1], 1),
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    for chosen in sys.argv[1:] or (*MODES, *CIPHERS):
        for size in UNIT_SIZES:
            for length in CALL_BYTES:
                measure(chosen, size, length)

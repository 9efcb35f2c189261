"""How fast the ciphers of each mode are: .venv/bin/python -m tests.bench.modes [MODE ...]

Prints a JSON line for each mode, cipher (the software's, and the engines' where theirs is another),
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
from fusedm.crypto import EVP_MODES
from fusedm.crypto.ciphers import ENGINE, SOFTWARE

DATA_UNIT_SIZES = (4096, 512)
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


def measure(mode: str, data_unit_size: int, call_bytes: int, by_engine: bool) -> None:
    """Print both directions."""
    config = CryptoConfig(mode, data_unit_size, 8)
    maker = ENGINE if by_engine else SOFTWARE
    cipher = maker.make(CryptoKey("bench", config, bytes(range(config.key_size))))
    src, dst = memoryview(bytes(call_bytes)), memoryview(bytearray(call_bytes))
    for direction in ("encrypt", "decrypt"):
        call = partial(getattr(cipher, direction), 1000, src, dst)
        speeds = mib_per_second(call, call_bytes)
        line = {
            "mode": mode,
            "cipher": "engine" if by_engine else "software",
            "data_unit_size": data_unit_size,
            "call_bytes": call_bytes,
            "direction": direction,
            "mib_per_s": round(statistics.median(speeds), 1),
            "best_mib_per_s": round(speeds[-1], 1),
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    for chosen in sys.argv[1:] or MODES:
        for unit in DATA_UNIT_SIZES:
            for length in CALL_BYTES:
                measure(chosen, unit, length, by_engine=False)
                if chosen in EVP_MODES:
                    measure(chosen, unit, length, by_engine=True)

"""A process that holds keys: what it knows gets into no core dump, and not into freed memory.

Whoever wants a core dump of it says so by FUSEDM_ALLOW_CORE=1, or --allow-core where there is one.
"""

import os
import resource
from collections.abc import Iterable

from fusedm.host import memory

ALLOW_CORE = "FUSEDM_ALLOW_CORE"

_core_limit: tuple[int, int] | None = None


def keep_secrets() -> None:
    """Make this process one that holds keys; processes that it forks are too, others it runs not.

    The kernel then neither dumps it, nor lets others of its user look into it: /proc/PID is root's.
    """
    global _core_limit
    memory.wipe_freed()
    if os.environ.get(ALLOW_CORE) or _core_limit is not None:
        return
    _core_limit = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, _core_limit[1]))
    memory.set_dumpable(False)


def allow_core() -> None:
    """Take the part about core dumps back, for this process and those it starts."""
    os.environ[ALLOW_CORE] = "1"
    give_core_limit_back()
    memory.set_dumpable(True)


def forget_variables(names: Iterable[str]) -> None:
    """Overwrite and remove variables of the environment: keys were read from them."""
    for name in map(os.fsencode, names):
        value = os.environb.get(name)
        if value is not None:
            memory.wipe_variable(name)
            memory.wipe_bytes(value)
            del os.environb[name]


def give_core_limit_back() -> None:
    """Have the limit on core dumps that this process was started with: for a user's command."""
    global _core_limit
    if _core_limit is not None:
        resource.setrlimit(resource.RLIMIT_CORE, _core_limit)
        _core_limit = None

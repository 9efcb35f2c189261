"""What the figures depend on: the versions of everything, and the machine."""

import os
import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fusedm
from fusedm.block.errors import FusedmError
from fusedm.crypto import libcrypto_version
from fusedm.host.mounts import run_tool, tool_path

_PACKAGES = ("pyfuse3", "trio", "cryptography")
_PEERS = ("qemu-storage-daemon", "nbdkit", "nbdfuse", "fio")


def conditions() -> str:
    """The machine and the versions in one line."""
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return (
        f"{os.cpu_count()} CPUs ({_cpu()}), Linux {platform.release()}, "
        f"Python {platform.python_version()}, {packages}"
    )


def versions() -> dict[str, str]:
    """Of fusedm, of what it is made of, and of the programs beside it; "-" for what is not here."""
    found = {
        "fusedm": fusedm.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
        "kernel": platform.release(),
    }
    for program in _PEERS:
        found[program] = _first_line(program, "--version")
    found["openssl"] = _first_line("openssl", "version")
    found["compiled ciphers"] = libcrypto_version()
    return found


def machine() -> dict[str, Any]:
    """The machine, as far as it tells."""
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "governor": governor.read_text().strip() if governor.exists() else None,
        "load_before": os.getloadavg()[0],
    }


def _cpu() -> str:
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return names[0] if names else platform.machine()


def _commit() -> str:
    """The commit of the clone this runs from; "-" if it was installed from elsewhere."""
    root = Path(fusedm.__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return "-"
    return _first_line("git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40")


def _first_line(program: str, *arguments: str) -> str:
    if shutil.which(program, path=tool_path(os.environ)) is None:
        return "-"
    try:
        said = run_tool(program, *arguments).strip().splitlines()
    except FusedmError:
        return "-"
    return said[0] if said else "-"

"""Libraries of ours that stand before libc's calls (LD_PRELOAD): of compiled code as of Python."""

import subprocess
from pathlib import Path

HELPERS = Path(__file__).parent


def compiled(source: str, folder: Path) -> Path:
    """The library made of one of the sources beside this file."""
    library = (folder / source).with_suffix(".so")
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library)]
    subprocess.run([*command, str(HELPERS / source), "-ldl"], check=True)
    return library

"""Libraries of ours that stand before libc's calls (LD_PRELOAD): of compiled code as of Python."""

import subprocess
from pathlib import Path

HELPERS = Path(__file__).parent


def compiled(source: str, folder: Path, *libraries: str) -> Path:
    """The library made of one of the sources beside this file and others (as -lname)."""
    library = folder / Path(source).with_suffix(".so").name
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library)]
    subprocess.run([*command, str(HELPERS / source), "-ldl", *libraries], check=True)
    return library

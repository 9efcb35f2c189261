"""pyfuse3, to be imported from here: it finds our receive before libfuse's (receive.pyx)."""

import importlib
import os
import sys

_flags = sys.getdlopenflags()
sys.setdlopenflags(os.RTLD_NOW | os.RTLD_GLOBAL)
try:
    importlib.import_module("fusedm.fuse.receive")
finally:
    sys.setdlopenflags(_flags)

import pyfuse3  # noqa: E402  # not before the other

__all__ = ["pyfuse3"]

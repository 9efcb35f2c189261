"""Keys in the kernel's keyring, for tests that read them."""

import ctypes
import os

import pytest

KEYCTL_REVOKE = 3
PROCESS_KEYRING = -2
ADD_KEY = {"x86_64": (248, 250), "aarch64": (217, 219), "riscv64": (217, 219)}


class Keyring:
    """Keys in this process's own keyring, revoked in the end."""

    def __init__(self) -> None:
        self._syscall = ctypes.CDLL(None, use_errno=True).syscall
        self._add, self._control = ADD_KEY.get(os.uname().machine, (0, 0))
        self._keys: list[int] = []

    def add(self, kind: bytes, description: bytes, payload: bytes) -> None:
        if not self._add:
            pytest.skip(f"KEYRING TESTS: SKIPPED - no syscall numbers for {os.uname().machine}")
        ring = ctypes.c_long(PROCESS_KEYRING)
        key = self._syscall(self._add, kind, description, payload, len(payload), ring)
        if key < 0:
            pytest.skip(f"KEYRING TESTS: SKIPPED - {os.strerror(ctypes.get_errno())}")
        self._keys.append(key)

    def revoke_all(self) -> None:
        for key in self._keys:
            self._syscall(self._control, KEYCTL_REVOKE, key)
        self._keys.clear()

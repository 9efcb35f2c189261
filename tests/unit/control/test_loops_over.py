"""Which loop devices a user takes for those over a stack, who may not ask what they lie over."""

import os
from typing import Any, cast

import pytest

from fusedm.control import Client, loops_over
from fusedm.host import loop
from fusedm.host.loop import LoopDevice


class FakeClient:
    """A stack in which only the file of one device is open."""

    mount_point = "/mnt"
    has_mount = True

    def call(self, verb: str) -> list[dict[str, Any]]:
        assert verb == "ls"
        return [{"path": f"/mnt/mapper/{name}", "open": name == "a"} for name in "ab"]


def test_over_a_file_that_nobody_has_open_lies_no_loop_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = [
        LoopDevice(f"/dev/loop{number}", f"/mnt/mapper/{name}", 512, True, False)
        for number, name in enumerate("ab")
    ]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(loop, "attached", lambda prefix: found)
    assert loops_over(cast("Client", FakeClient())) == found[:1]

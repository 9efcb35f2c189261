"""A stack and its verbs in this process, without a mount or a socket."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fusedm.block.errors import FusedmError
from fusedm.control.commands import Commands
from fusedm.control.protocol import Request
from fusedm.stack import Stack, parse_spec

TOML = """\
version = 1

[disks.d0]
size = "1MiB"
store = "memory:"
engine = { keyslots = 2, max_dun_bytes = 8, modes = { "AES-256-XTS" = [512, 4096] } }

[disks.d1]
size = "1MiB"
store = "volatile:memory:"

[mapper.dm0]
table = "0 1024 linear d0 0"
uuid = "uuid-0"

[keys.k]
mode = "AES-256-XTS"
data_unit_size = 4096
dun_bytes = 8
source = "random"

[views.v]
device = "dm0"
key = "k"
dun_base = 3
"""


RAW = bytes(range(64))
KEY = {"mode": "AES-256-XTS", "data_unit_size": 512, "dun_bytes": 4, "source": "env:NAME"}
ENGINE = {"keyslots": 0, "max_dun_bytes": 4, "modes": {"AES-256-XTS": [4096]}}

#: Every verb with arguments it takes on the stack of helpers.commands.
CALLS: dict[str, dict[str, Any]] = {
    "status": {},
    "ls": {},
    "file": {"name": "v"},
    "save": {},
    "stop": {"force": False},
    "nbd.list": {},
    "nbd.serve": {
        "names": ["d0"],
        "socket": "/nowhere/at/all",
        "tcp": "",
        "tls_cert": "",
        "tls_key": "",
        "tls_ca": "",
        "read_only": False,
    },
    "nbd.stop": {"address": "/nowhere/at/all", "force": False},
    "disk.add": {"name": "n", "store": "memory:", "size": 4096},
    "disk.remove": {"name": "d1"},
    "disk.show": {"name": "d0"},
    "disk.losepower": {"name": "d1", "keep": "nothing"},
    "disk.loseengine": {"name": "d0"},
    "disk.gainengine": {"name": "d1", "engine": ENGINE},
    "disk.resetengine": {"name": "d0"},
    "dm.ls": {},
    "dm.targets": {},
    "dm.info": {"name": {"uuid": "uuid-0"}},
    "dm.show": {"name": "dm0"},
    "dm.add": {
        "name": "n",
        "table": "0 8 zero",
        "uuid": "u",
        "read_only": True,
        "minor": 77,
        "folder": None,
    },
    "dm.load": {
        "name": {"name": "dm0"},
        "table": "0 8 zero",
        "read_only": False,
        "folder": "/",
    },
    "dm.clear": {"name": "dm0"},
    "dm.suspend": {"name": "dm0", "noflush": False, "nolockfs": True},
    "dm.resume": {"name": {"number": [253, 0]}, "noflush": False, "nolockfs": True},
    "dm.resumeall": {},
    "dm.remove": {"name": "dm0", "deferred": False},
    "dm.rename": {"name": "dm0", "new": "dm9"},
    "dm.setuuid": {"name": "dm0", "uuid": "uuid-1"},
    "dm.setnumber": {"name": "dm0", "number": [7, 0]},
    "dm.table": {"name": "dm0", "inactive": False, "keys": False, "numbers": True},
    "dm.status": {"name": "dm0", "inactive": False, "numbers": True},
    "dm.deps": {"name": "dm0", "inactive": False},
    "dm.message": {"name": "dm0", "sector": 0, "words": ["hello"]},
    "dm.wait": {"name": "dm0", "event": 1},
    "key.add": {"name": "n", "raw": base64.b64encode(RAW).decode(), **KEY},
    "key.remove": {"name": "k"},
    "key.list": {},
    "key.importwrapped": {"name": "d0", "raw": ""},
    "key.generatewrapped": {"name": "d0"},
    "key.prepare": {"name": "d0", "key": ""},
    "key.softwaresecret": {"name": "d0", "key": ""},
    "view.add": {"name": "n", "device": "d0", "key": "k"},
    "view.remove": {"name": "v"},
    "view.show": {"name": "v"},
    "why": {"name": "dm0", "config": "AES-256-XTS/4096"},
    "explain": {"name": "v", "offset": 4096, "length": 8192, "write": False},
    "verify.view": {"name": "v"},
    "verify.part": {"name": "v", "begin": 0, "end": 4096},
    "verify.reuse": {"names": ["v"]},
    "verify.duns": {"names": ["v", "w"], "duns": [3]},
    "verify.sample": {"names": ["v", "w"], "first": 0, "last": 7, "count": 3, "seed": 0},
    "verify.keyslots": {"name": "d0"},
    "verify.dun": {"names": ["v"]},
    "why.table": {"name": "dm0", "table": "0 8 zero"},
}


@dataclass
class Verbs:
    """The verbs of one stack; stops counts how often the daemon was told to end."""

    stack: Stack
    stops: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.commands = Commands(self.stack, Path("/m"), lambda: self.stops.append(True))

    async def call(self, verb: str, **args: Any) -> Any:
        """Have a verb carried out, as a request from the socket is."""
        return await self.commands.dispatch(Request(verb, args))

    async def lines(self, verb: str, **args: Any) -> list[str]:
        """The lines of a table or status."""
        return [str(line) for line in await self.call(verb, **args)]


@asynccontextmanager
async def verbs(base_dir: Path, toml: str = TOML) -> AsyncIterator[Verbs]:
    """The verbs of the stack that a stack file describes."""
    async with Stack(parse_spec(toml, "stack.toml"), base_dir) as stack:
        yield Verbs(stack)


async def refusal(stack: Verbs, verb: str, **args: Any) -> FusedmError:
    """The error of a verb that changes nothing."""
    before = await stack.call("save"), await stack.call("ls"), await stack.call("key.list")
    with pytest.raises(FusedmError) as caught:
        await stack.call(verb, **args)
    after = await stack.call("save"), await stack.call("ls"), await stack.call("key.list")
    assert after == before
    assert "\n" not in str(caught.value)
    return caught.value

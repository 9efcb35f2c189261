"""The stack file of the README, and what a refusal of a changed one says."""

import pytest

from fusedm.block.errors import SpecError
from fusedm.stack.spec import parse_spec

FILE = """\
version = 1

[disks.ufs0]
size = "1GiB"
store = "file:ufs0.img"
engine = { keyslots = 32, max_dun_bytes = 8, modes = { "AES-256-XTS" = [512, 4096] } }

[disks.plain0]                 # no engine
size = "1GiB"
store = "memory:"

[mapper.data]
table = \"\"\"
0 2097152 linear ufs0 0
2097152 2097152 linear plain0 0
\"\"\"

[keys.alice]
mode = "AES-256-XTS"
data_unit_size = 4096
dun_bytes = 8
source = "file:alice.key"

[views.home]
device = "data"
key = "alice"
dun_base = 0
"""

TABLE = "0 2097152 linear ufs0 0\n2097152 2097152 linear plain0 0\n"


def refusal(text: str) -> SpecError:
    with pytest.raises(SpecError) as caught:
        parse_spec(text, "s.toml")
    return caught.value


def parts(error: SpecError) -> tuple[int, str, str]:
    """The line, the message without the place, and the source from the caret on."""
    message, source, caret = str(error).split("\n")
    place = f"s.toml:{error.line}: "
    assert message.startswith(place)
    return error.line, message.removeprefix(place), source[caret.index("^") :]

#!/usr/bin/env bash
# Writes a new device-mapper target, its doc and its test, to start from: a linear without crypto;
# and the grammar of its lines, if there is none.
# Usage: scripts/new-target.sh NAME, as in `make new-target NAME=era`.
set -euo pipefail

name=${1-}
if [[ $# -ne 1 || ! $name =~ ^[a-z][a-z0-9]*(-[a-z0-9]+)*$ ]]; then
    echo "new-target: give one name of small letters, digits and dashes, such as era" >&2
    exit 2
fi
cd "$(dirname "$0")/.."
file=${name//-/_}
class=$(sed -E 's/(^|-)(.)/\U\2/g' <<<"$name")
module=fusedm/dm/targets/$file.py
doc=fusedm/dm/targets/$file.md
test=tests/unit/dm/targets/test_$file.py
for path in "$module" "$doc" "$test"; do
    if [[ -e $path ]]; then
        echo "new-target: $path exists already" >&2
        exit 1
    fi
done
mkdir -p "$(dirname "$module")" "$(dirname "$test")"

cat >"$module" <<END
"""$name: say in one line what it does.  See $file.md."""

from collections.abc import Iterable
from dataclasses import dataclass

from fusedm.block import Bio
from fusedm.dm.arguments import Arguments
from fusedm.dm.target import Action, Segment, Target, Word


def examples() -> list[str]:
    """Arguments the contract suite tries."""
    return ["d0 0", "d1 2048"]


@dataclass
class $class(Target):
    """Say what it does to bios, and why contexts pass or not."""

    name = "$name"
    version = (1, 0, 0)
    passes_crypto = False

    sector_count: int
    segment: Segment

    @classmethod
    def make(cls, line: Arguments) -> "$class":
        return cls(line.sector_count, line.segment())

    def params(self) -> list[Word]:
        return self.segment.params()

    def devices(self) -> Iterable[Segment]:
        return [self.segment]

    def map(self, bio: Bio) -> Action:
        return self.segment.remap(bio)
END

cat >"$doc" <<END
# $name

Say in one sentence what it does.

## Parameters

| parameter | unit | range | default |
|---|---|---|---|
| \`dev\` | device name | any disk or other mapped device | none, required |
| \`offset\` | sectors | 0 up to the size of \`dev\` less the length of the target | none, required |

## Example

\`\`\`
0 4096 $name d0 0
\`\`\`

## Crypto

Neither passes nor consumes contexts: say why.

## Kernel

Say how it differs from the kernel's target of that name.

## See also

[linear](linear.md)
END

cat >"$test" <<END
"""What is special to $name; the rest is in tests/contracts/test_every_target.py."""

from fusedm.block import Bio, Op
from fusedm.dm import Remap, parse_table
from tests.helpers.devices import RecordingDevice, lookup_in

D0 = RecordingDevice("d0", 4096)


def test_a_read_goes_to_its_place_in_the_device():
    table = parse_table("0 1024 $name d0 100", lookup_in(D0), lambda: 0.0)
    action = table.entries[0].target.map(Bio.read(5, memoryview(bytearray(512))))
    assert isinstance(action, Remap)
    assert (action.device, action.bio.op, action.bio.sector) == (D0, Op.READ, 105)
END

printf '%s\n' "$module" "$doc" "$test"
if ! grep -qs "\"$name\"" fusedm/tables/grammars/*.py; then
    grammar=fusedm/tables/grammars/$file.py
    mkdir -p "$(dirname "$grammar")"
    cat >"$grammar" <<END
"""$name: say in one line what it does."""

from fusedm.tables.grammar import Grammar
from fusedm.tables.pieces import Device, Offset

GRAMMARS = [Grammar("$name", "dev offset", (Device(), Offset()))]
END
    printf '%s\n' "$grammar"
fi

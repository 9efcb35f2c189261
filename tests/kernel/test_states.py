"""States: what each verb does to a device, in which order things fail, and what is counted."""

from collections.abc import Mapping

import pytest

from tests.helpers.uml.compare import compare
from tests.helpers.uml.experiment import Experiment, Outcome, started, step

pytestmark = pytest.mark.kernel

INFO = step("info", "x")
NAMES = "fusedm says EEXIST where a name is taken, as for files"
UNKNOWN = "nosuch"

EXPERIMENTS = {
    "a device without a table": Experiment(
        (
            step("create", "x"),
            *(INFO, step("table", "x"), step("status", "x"), step("deps", "x")),
            step("resume", "x"),
            INFO,
            step("clear", "x"),
            step("suspend", "x"),
            INFO,
            step("resume", "x"),
            INFO,
            step("remove", "x"),
        )
    ),
    "suspend and resume, each twice": Experiment(
        (
            *started("x", "0 8 linear d0 0"),
            step("suspend", "x"),
            INFO,
            step("suspend", "x"),
            INFO,
            step("resume", "x"),
            INFO,
            step("resume", "x"),
            INFO,
        )
    ),
    "an inactive table that is replaced, cleared, and made live": Experiment(
        (
            *started("x", "0 8 linear d0 0"),
            step("load", "x", "0 8 zero"),
            step("load", "x", "0 8 zero\n8 8 zero"),
            *(INFO, step("table", "x", True), step("deps", "x")),
            step("clear", "x"),
            step("clear", "x"),
            *(INFO, step("table", "x", True)),
            step("load", "x", "0 16 linear d0 8"),
            step("suspend", "x"),
            INFO,
            step("resume", "x"),
            *(INFO, step("table", "x"), step("read", "x", 0, 4096)),
        )
    ),
    "read-only tables": Experiment(
        (
            step("create", "x"),
            step("load", "x", "0 8 linear d0 0", True),
            INFO,
            step("resume", "x"),
            INFO,
            step("load", "x", "0 8 linear d0 0"),
            INFO,
            step("resume", "x"),
            INFO,
        )
    ),
    "names that are taken, unknown or illegal": Experiment(
        (
            step("create", "x"),
            step("create", "x", departs=NAMES),
            *(step(verb, UNKNOWN) for verb in ("remove", "resume", "suspend", "clear")),
            *(step(verb, UNKNOWN) for verb in ("info", "table", "status", "deps")),
            step("load", UNKNOWN, "0 8 zero"),
            step("message", UNKNOWN, 0, "hello"),
            step("rename", UNKNOWN, "y"),
            step("create", "y"),
            step("rename", "x", "y", departs=NAMES),
            step("rename", "x", "a/b"),
            step("rename", "x", "z"),
            step("info", "z"),
            INFO,
        )
    ),
    "a device under another": Experiment(
        (
            *started("x", "0 1024 linear d0 0"),
            *started("y", "0 512 linear x 8"),
            *(step("deps", "y"), step("table", "y")),
            step("remove", "x"),
            step("rename", "x", "z"),
            *(step("deps", "y"), step("table", "y")),
            step("load", "y", "0 8 zero"),
            step("remove", "z"),
            step("resume", "y"),
            step("remove", "z"),
            step("remove", "y"),
        )
    ),
    "a device that an inactive table holds": Experiment(
        (
            *started("x", "0 1024 linear d0 0"),
            *started("y", "0 8 zero"),
            step("load", "y", "0 512 linear x 8"),
            step("remove", "x"),
            step("clear", "y"),
            step("remove", "x"),
        )
    ),
    "messages that nobody takes": Experiment(
        (
            step("create", "x"),
            step("message", "x", 0, "hello"),
            step("load", "x", "0 8 linear d0 0\n8 8 zero"),
            step("message", "x", 0, "hello"),
            step("resume", "x"),
            step("message", "x", 0, "hello"),
            step("message", "x", 8, "hello"),
            step("message", "x", 16, "hello"),
            step("message", "x", 0, ""),
            step("message", "x", 0, "@nosuch"),
            step("suspend", "x"),
            step("message", "x", 0, "hello"),
        )
    ),
    "events": Experiment(
        (
            *started("x", "0 8 linear d0 0"),
            INFO,
            step("rename", "x", "y"),
            step("info", "y"),
            step("rename", "y", "x"),
            INFO,
            step("load", "x", "0 8 zero"),
            step("resume", "x"),
            INFO,
        )
    ),
    "stripes that fail": Experiment(
        (
            *started("bad", "0 64 error"),
            *started("x", "0 32 striped 2 8 d0 0 bad 0"),
            step("status", "x"),
            step("read", "x", 0, 4096),
            step("read", "x", 4096, 4096),
            step("status", "x"),
            step("write", "x", 4096, 4096, 1),
            step("status", "x"),
        )
    ),
    "flakey goes down and comes up": Experiment(
        (
            *started("x", "0 64 flakey d0 0 2 2"),
            step("write", "x", 0, 4096, 1),
            step("sleep", 2.5),
            step("write", "x", 0, 4096, 2),
            step("read", "x", 0, 4096),
            step("sleep", 2.0),
            step("read", "x", 0, 4096),
            step("write", "x", 0, 4096, 3),
        ),
        images=True,
    ),
    "a reload starts the clock of flakey again": Experiment(
        (
            *started("x", "0 64 flakey d0 0 2 60"),
            step("sleep", 2.5),
            step("read", "x", 0, 4096),
            step("load", "x", "0 64 flakey d0 0 2 60"),
            step("resume", "x"),
            step("read", "x", 0, 4096),
        )
    ),
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_states_follow_the_kernel(kernel: Mapping[str, Outcome], name: str) -> None:
    compare(EXPERIMENTS[name], kernel[name])

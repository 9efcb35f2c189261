"""Trees of devices, to the byte."""

from fusedm.dmsetup.tree import tree_text
from tests.helpers.mapped import block_names, mapped

#: c is striped over a and b; d and e are parts of it; z is on nothing.
STACKED = [
    mapped("a", 0, (1, 0)),
    mapped("b", 1, (1, 1)),
    mapped("c", 2, (254, 1), (254, 0), uuid="UUID-c", open_count=2),
    mapped("d", 3, (254, 2)),
    mapped("e", 4, (254, 2)),
    mapped("z", 5, is_suspended=True, is_read_only=True),
]

DEEP = [
    mapped("p", 0, (1, 0)),
    mapped("qq", 1, (1, 1)),
    mapped("rrr", 2, (1, 2)),
    mapped("tt", 3, (254, 1), (254, 0)),
    mapped("uuuu", 4, (254, 2), (254, 3)),
    mapped("v", 5, (1, 5), (254, 3), (254, 2)),
    mapped("w", 6, (254, 4), (254, 5)),
]


def drawn(*switches: str, is_utf: bool = False) -> str:
    return tree_text(STACKED, switches, block_names(STACKED), is_utf)


def deep(*switches: str) -> str:
    return tree_text(DEEP, switches, block_names(DEEP), False)


def test_a_tree_begins_with_what_nobody_uses() -> None:
    assert drawn() == (
        "d (254:3)\n"
        " `-c (254:2)\n"
        "    |-b (254:1)\n"
        "    |  `- (1:1)\n"
        "    `-a (254:0)\n"
        "       `- (1:0)\n"
        "e (254:4)\n"
        " `-c (254:2)\n"
        "    |-b (254:1)\n"
        "    |  `- (1:1)\n"
        "    `-a (254:0)\n"
        "       `- (1:0)\n"
        "z (254:5)\n"
    )


def test_an_inverted_tree_begins_with_what_uses_nothing() -> None:
    assert drawn("inverted") == (
        " (1:0)\n"
        " `-a (254:0)\n"
        "    `-c (254:2)\n"
        "       |-d (254:3)\n"
        "       `-e (254:4)\n"
        " (1:1)\n"
        " `-b (254:1)\n"
        "    `-c (254:2)\n"
        "       |-d (254:3)\n"
        "       `-e (254:4)\n"
        "z (254:5)\n"
    )


def test_names_of_block_devices_may_be_shown() -> None:
    assert drawn("blkdevname").splitlines()[:4] == [
        "d <dm-3> (254:3)",
        " `-c <dm-2> (254:2)",
        "    |-b <dm-1> (254:1)",
        "    |  `- <ram1> (1:1)",
    ]


def test_attributes_may_be_shown() -> None:
    lines = drawn("active", "rw", "open", "uuid").splitlines()
    assert lines[1] == " `-c (254:2) [ACTIVE, RW, 2, UUID-c]"
    assert lines[3] == "    |  `- (1:1)"
    assert lines[-1] == "z (254:5) [SUSPENDED, RO, 0, ]"


def test_numbers_may_be_left_out() -> None:
    assert drawn("nodevice") == ("d\n `-c\n    |-b\n    `-a\ne\n `-c\n    |-b\n    `-a\nz\n")


def test_a_compact_tree_has_a_chain_in_one_line() -> None:
    assert drawn("compact") == (
        "d (254:3)---c (254:2)-+-b (254:1)--- (1:1)\n"
        "                         `-a (254:0)--- (1:0)\n"
        "e (254:4)---c (254:2)-+-b (254:1)--- (1:1)\n"
        "                         `-a (254:0)--- (1:0)\n"
        "z (254:5)\n"
    )


def test_a_compact_tree_of_several_branches() -> None:
    assert deep("compact") == (
        "w (254:6)-+-uuuu (254:4)-+-rrr (254:2)--- (1:2)\n"
        "          |                 `-tt (254:3)-+-qq (254:1)--- (1:1)\n"
        "          |                              `-p (254:0)--- (1:0)\n"
        "          `-v (254:5)-+- (1:5)\n"
        "                      |-tt (254:3)-+-qq (254:1)--- (1:1)\n"
        "                      |            `-p (254:0)--- (1:0)\n"
        "                      `-rrr (254:2)--- (1:2)\n"
    )


def test_lines_are_cut_at_the_width_of_the_terminal() -> None:
    lines = deep("compact", "blkdevname").splitlines()
    assert lines[1:3] == [
        "                 |                        `-tt <dm-3> (254:3)-+-qq <dm-1> (254:...",
        "                 |                                            `-p <dm-0> (254:0...",
    ]
    uncut = deep("compact", "blkdevname", "notrunc").splitlines()[1]
    assert uncut.endswith("-+-qq <dm-1> (254:1)--- <ram1> (1:1)")


def test_attributes_are_not_shown_in_one_line() -> None:
    assert drawn("compact", "active").splitlines()[:2] == [
        "d (254:3) [ACTIVE]",
        " `-c (254:2) [ACTIVE]",
    ]


def test_the_locale_and_options_choose_the_lines() -> None:
    utf = drawn(is_utf=True)
    assert utf.splitlines()[1:4] == [" └─c (254:2)", "    ├─b (254:1)", "    │  └─ (1:1)"]
    assert drawn("utf") == utf
    assert drawn("ascii") == drawn()
    assert drawn("utf", "compact").startswith("d (254:3)───c (254:2)─┬─b (254:1)─── (1:1)\n")
    assert drawn("vt100").splitlines()[1:4] == [
        " \x1b(0\x0fmq\x1b(Bc (254:2)",
        "    \x1b(0\x0ftq\x1b(Bb (254:1)",
        "    \x1b(0\x0fx\x1b(B  \x1b(0\x0fmq\x1b(B (1:1)",
    ]


def test_what_switches_a_terminal_takes_no_room() -> None:
    devices = [mapped("n" * 65, 0, (1, 0))]
    text = tree_text(devices, ["vt100", "compact"], {}, False)
    assert text == f"{devices[0].name} (254:0)\x1b(0\x0fqqq\x1b(B (1...\n"

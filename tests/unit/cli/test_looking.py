"""why, explain and verify: what is refused before a daemon is asked, and what is printed."""

import pytest

from fusedm.cli.looking_text import swap_text, why_text
from fusedm.cli.main import main
from fusedm.cli.verify_text import difference_text, leak_text


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("why d AES-256-XTS", "'AES-256-XTS' is not MODE/SIZE[/DUN_BYTES][/raw|hw-wrapped]"),
        ("why d AES-256-XTS/7", "data_unit_size 7 is not a power of two in 512..65536"),
        ("why d AES-256-XTS/512 --table -", "give either MODE/SIZE or --table"),
        ("explain d x 1", "OFFSET: 'x' is not a size: use a number with B, s, KiB, MiB, "),
        ("explain d 0 2MiB", "length 2097152 is not in 1..1048576, one request of the kernel"),
        ("verify", "give the names of views"),
        ("verify --leak", "--leak needs the names of disks"),
        ("verify --keyslots", "--keyslots needs the names of disks"),
        (
            "verify --leak --dun",
            "give at most one of --reuse, --dun, --keyslots, --leak and --against",
        ),
        ("verify v w --against x", "--against needs one view, 2 are given"),
        ("verify v --length x", "--length: 'x' is not a size"),
    ],
)
def test_what_is_asked_for_wrongly_is_one_line_and_exit_code_2(capsys, words, text):
    with pytest.raises(SystemExit) as caught:
        main(words.split())
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert error.startswith(f"fusedm: {text}")
    assert error.count("\n") == 1


def test_a_device_that_can_do_nothing_says_so():
    told = {"name": "d", "device": "d", "key": None, "start": 0, "sectors": 8, "native": {},
            "max_dun_bytes": 0, "key_types": [], "missing": [], "configs": [
                {"mode": "M", "key_types": ["raw"], "data_unit_size": 8192, "dun_bytes": 8,
                 "extents": []}
            ]}  # fmt: skip
    assert why_text(told).splitlines() == [
        "d: 8 sectors",
        "native all over d: nothing",
        "where a context of M/8192, 8 DUN bytes is honoured on d:",
        "  nowhere: it is smaller than a data unit",
    ]


def test_what_a_table_gains_and_what_stays_is_said():
    group = {
        "mode": "M",
        "key_types": ["raw"],
        "sizes": [512],
        "obstacles": [{"text": "d1 has no inline engine"}],
    }
    told = {"name": "dm", "sectors": [8, 16], "refused": None, "views": [], "devices": [
        {"name": "dm", "gained": [group], "lost": []}, {"name": "up", "gained": [], "lost": []}
    ]}  # fmt: skip
    assert swap_text(told).splitlines() == [
        "dm: 8 sectors, 16 with this table; nothing is loaded",
        "dm gains M 512",
        "  was missing: d1 has no inline engine",
        "up neither gains nor loses anything natively",
    ]


def test_what_is_found_beyond_what_is_told_is_counted():
    leak = {"offset": 512, "view": "v", "view_offset": 0}
    assert leak_text({"name": "d", "leak_count": 3, "leaks": [leak]})[-1] == "  and 2 more"
    one = {"name": "v", "difference_count": 1, "differences": [
        {"first_byte": 9, "offset": 0, "shows": "61", "wanted": ""}
    ]}  # fmt: skip
    assert difference_text(one, "f")[1].endswith("v shows 61, f has ended")

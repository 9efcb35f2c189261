"""What `ls` prints."""

from fusedm.cli import listing


def file(name, kind="disk", below=(), **more):
    return {
        "name": name,
        "kind": kind,
        "path": f"/m/{name}",
        "size": 1 << 20,
        "ro": False,
        "log_sec": 512,
        "open": 0,
        "below": list(below),
        "suspended": False,
        **more,
    }


STACK = [
    file("d0"),
    file("d1", ro=True),
    file("dm0", "mapped", ["d0", "d1"], suspended=True),
    file("dm1", "mapped", ["dm0"]),
    file("v", "view", ["dm1"], log_sec=4096, open=2, key="k", dun_base=7, start=0),
]
NODES = {"/m/v": "/dev/loop3"}


def test_columns_are_as_wide_as_their_widest_cell():
    assert listing.columns([("A", "BB", "C"), ("aaa", "b", "c")]) == "A    BB  C\naaa  b   c"


def test_columns_have_no_blanks_at_the_end():
    assert listing.columns([("A", "long"), ("a", "x")]) == "A  long\na  x"


def test_the_table_has_a_row_for_each_file():
    header, *rows = (line.split() for line in listing.table(STACK[-1:], NODES).splitlines())
    assert header == ["NAME", "TYPE", "SIZE", "RO", "LOG-SEC", "OPEN", "LOOP", "ON", "PATH"]
    assert rows == [["v", "view", "1MiB", "0", "4096", "2", "/dev/loop3", "dm1", "/m/v"]]


def test_the_table_marks_what_is_suspended_and_read_only():
    lines = listing.table(STACK, NODES).splitlines()
    assert lines[2].split()[:4] == ["d1", "disk", "1MiB", "1"]
    assert lines[3].startswith("dm0 (suspended)  mapped")
    assert lines[3].split()[-2] == "d0,d1"


def test_the_table_of_nothing_is_its_header():
    assert listing.table([], {}).split()[0] == "NAME"
    assert "\n" not in listing.table([], {})


def test_json_has_the_key_names_of_lsblk():
    told = listing.lsblk(STACK, NODES)["blockdevices"]
    assert [row["name"] for row in told] == ["d0", "d1", "dm0", "dm1", "v"]
    assert [row["type"] for row in told] == ["disk", "disk", "dm", "dm", "crypt"]
    assert [row["pkname"] for row in told] == [None, None, "d0", "dm0", "dm1"]
    assert {key: told[4][key] for key in ("path", "size", "ro", "log-sec")} == {
        "path": "/m/v",
        "size": 1 << 20,
        "ro": False,
        "log-sec": 4096,
    }


def test_json_tells_under_fusedm_what_lsblk_has_no_key_for():
    told = listing.lsblk(STACK, NODES)["blockdevices"]
    assert told[4]["fusedm"] == {
        "below": ["dm1"],
        "open": 2,
        "loop": "/dev/loop3",
        "suspended": False,
        "key": "k",
        "dun_base": 7,
        "start": 0,
    }
    assert told[0]["fusedm"]["loop"] is None
    assert told[0]["fusedm"]["key"] is None


def test_the_tree_shows_each_device_below_what_uses_it():
    assert listing.tree([*STACK, file("spare")]).splitlines() == [
        "v (view, 1MiB, key k)",
        " `-dm1 (mapped, 1MiB)",
        "    `-dm0 (mapped, 1MiB)",
        "       |-d0 (disk, 1MiB)",
        "       `-d1 (disk, 1MiB)",
        "spare (disk, 1MiB)",
    ]


def test_the_tree_says_where_a_part_of_a_device_begins():
    files = [file("d0"), file("v", "view", ["d0"], key="k", dun_base=0, start=2 << 20)]
    assert listing.tree(files).splitlines()[0] == "v (view, 1MiB, key k, from 2MiB)"


def test_the_tree_draws_a_line_past_the_children_of_an_elder_branch():
    files = [file("a"), file("b"), file("m", "mapped", ["a"]), file("top", "mapped", ["m", "b"])]
    assert listing.tree(files).splitlines() == [
        "top (mapped, 1MiB)",
        " |-m (mapped, 1MiB)",
        " |  `-a (disk, 1MiB)",
        " `-b (disk, 1MiB)",
    ]


def test_the_tree_of_nothing_is_empty():
    assert listing.tree([]) == ""

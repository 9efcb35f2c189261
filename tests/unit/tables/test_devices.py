"""Which words of a table are devices is what the grammars say, and no guess."""

import pytest

from fusedm.tables import devices_named


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("0 8 linear d0 0", ["d0"]),
        ("0 8 linear 8 8", ["8"]),
        ("0 8 linear /img 0\n8 8 linear 7:3 0\n16 8 linear /img 8", ["/img", "7:3"]),
        (r"0 8 linear a\ b\\c 0", ["a b\\c"]),
        ("  # 0 8 linear d0 0\n\n0 8 zero", []),
        ("0 64 snapshot o P P 8", ["o", "P"]),
        ("0 64 snapshot-origin N", ["N"]),
        ("0 64 striped 2 4 2 0 4 0", ["2", "4"]),
        ("0 8 delay d 0 0 d 0 5", ["d"]),
        ("0 8 crypt aes-xts-plain64 :64:user:d0 0 d1 0 1 allow_discards", ["d1"]),
        ("0 8 log-writes d log", ["d", "log"]),
        ("0 8 error", []),
        ("0 8 error d0 0", ["d0"]),
        ("0 8 error any words at all", []),
        ("0 64 raid raid1 3 0 region_size 8 2 - d0 m1 d1", ["d0", "m1", "d1"]),
        ("0 8 linear - 0", ["-"]),
        # As far as it can be understood.
        ("0 8 linear d0", ["d0"]),
        ("x y linear d0 z and more", ["d0"]),
        ("0 64 striped two 4 d0 0 d1 0", []),
        ("0 8 nosuch d0 d1", []),
        ("0 8 multipath 0 0 1 1 service-time 0 1 2 8:0 1 1", []),
        ("0 8", []),
        ("", []),
    ],
)
def test_a_table_names_the_devices_that_its_targets_look_up(text: str, named: list[str]) -> None:
    assert devices_named(text) == named

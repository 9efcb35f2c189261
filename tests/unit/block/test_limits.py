"""How limits stack."""

from fusedm.block.limits import Limits, stack_all


def test_the_stricter_limit_wins():
    both = Limits(4096, 4096, 0, True).stack(Limits(512, 8192, 0, False))
    assert both == Limits(4096, 8192, 0, False)


def test_the_best_size_suits_both():
    assert Limits(io_opt_bytes=3 << 12).stack(Limits(io_opt_bytes=2 << 12)).io_opt_bytes == 6 << 12


def test_no_preference_gives_way():
    assert Limits().stack(Limits(io_opt_bytes=4096)).io_opt_bytes == 4096
    assert Limits().stack(Limits()).io_opt_bytes == 0


def test_no_limits_at_all_are_the_defaults():
    assert stack_all([]) == Limits()
    assert stack_all([Limits(4096), Limits(512)]).logical_block_size == 4096

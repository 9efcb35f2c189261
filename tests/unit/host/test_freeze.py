"""What can be said of freezing without a file system; the rest is in tests/mount."""

from fusedm.host.freeze import Freeze


def test_freezing_where_nothing_is_attached_does_nothing() -> None:
    freeze = Freeze(["/m/mapper/no-such-device"])
    freeze.freeze()
    assert freeze.mount_points == []
    freeze.thaw()

"""What libfuse is told about who may look into a mount."""

import pytest

from fusedm.fuse import MountOptions

ALWAYS = {"fsname=fusedm", "subtype=fusedm", "default_permissions"}


@pytest.mark.parametrize(
    ("options", "more"),
    [
        (MountOptions(), set()),
        (MountOptions(allow_other=True), {"allow_other"}),
        (MountOptions(allow_root=True), {"allow_root"}),
        # libfuse refuses both together, and everybody includes root.
        (MountOptions(allow_other=True, allow_root=True), {"allow_other"}),
    ],
)
def test_a_mount_is_private_unless_asked_otherwise(options: MountOptions, more: set[str]) -> None:
    assert options.fuse_options() == ALWAYS | more

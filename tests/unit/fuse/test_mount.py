"""What libfuse is told about who may look into a mount."""

import pytest

from fusedm.host.kernel_mount import MountOptions


@pytest.mark.parametrize(
    ("options", "kernel", "libfuse"),
    [
        (MountOptions(), set(), set()),
        (MountOptions(allow_other=True), {"allow_other"}, set()),
        # The kernel knows everybody or nobody; libfuse lets in root alone.
        (MountOptions(allow_root=True), {"allow_other"}, {"allow_root"}),
        (MountOptions(allow_other=True, allow_root=True), {"allow_other"}, set()),
    ],
)
def test_a_mount_is_private_unless_asked_otherwise(
    options: MountOptions, kernel: set[str], libfuse: set[str]
) -> None:
    assert options.kernel_options() == {"default_permissions"} | kernel
    assert options.libfuse_options() == libfuse

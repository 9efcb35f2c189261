"""Programs in a mount namespace of their own, from which nothing leads back to that of others."""

import pytest

from fusedm.host.mounts import mount_at


def unshare_mounts(*flags: str) -> list[str]:
    """The words before those of a program; skips a test where the kernel does not allow it.

    What is mounted can be kept private only below a mount point, and after a bare chroot the root
    is none. In a container it is one.
    """
    if mount_at("/") is None:
        pytest.skip("NAMESPACE TEST SKIPPED: / is no mount point, as after chroot: bind it first")
    return ["unshare", "--mount", "--propagation=private", *flags]

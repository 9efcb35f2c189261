"""The key that data are encrypted with: a view's own, or what engines derive from a wrapped one."""

from collections.abc import Iterator
from contextlib import contextmanager

from fusedm.block import BlockDevice, CryptoKey
from fusedm.disk import Disk
from fusedm.system import View


@contextmanager
def data_key(view: View) -> Iterator[bytearray]:
    """The bytes, for as long as they are needed; they are overwritten then.

    Of a wrapped key it is what the key manager of the first disk below gives to its engine. So it
    is not checked how keys are derived, only what is encrypted with them.
    Raises: CryptoError for a wrapped key that cannot be unwrapped any more.
    """
    assert view.key is not None, "only a view in the table of views has a key"
    raw = bytearray(inline_key(view.device, view.key).raw)
    try:
        yield raw
    finally:
        raw[:] = bytearray(len(raw))


def inline_key(device: BlockDevice, key: CryptoKey) -> CryptoKey:
    """The key itself, or what the first disk of a device derives from a wrapped one.

    Raises: CryptoError for a wrapped key that cannot be unwrapped any more.
    """
    if not key.config.is_wrapped:
        return key
    while not isinstance(device, Disk):
        device = next(iter(device.underlying()))
    assert device.engine is not None, "a wrapped key is used on engines"
    assert device.engine.key_manager is not None, "and they take such keys"
    return device.engine.key_manager.inline_key(key)

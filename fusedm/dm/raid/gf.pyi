"""The types of gf.pyx."""

from collections.abc import Sequence

Source = bytes | bytearray | memoryview

def sum_products(
    targets: Sequence[bytearray | memoryview],
    sources: Sequence[Source],
    factors: Sequence[bytes],
) -> None: ...
def use_code_for_any_processor(for_any: bool) -> None: ...

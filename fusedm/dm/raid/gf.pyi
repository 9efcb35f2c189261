"""The types of gf.pyx."""

from collections.abc import Sequence

Source = bytes | bytearray | memoryview

def sum_products(
    targets: Sequence[bytearray | memoryview],
    sources: Sequence[Source],
    factors: Sequence[bytes],
) -> None: ...
def sum_pieces(
    targets: Sequence[bytearray | memoryview],
    sources: Sequence[Source],
    pieces: Sequence[tuple[int, bytes]],
) -> None: ...
def not_zero(data: Source, step: int) -> list[int]: ...
def differing(one: Source, other: Source, step: int) -> list[int]: ...
def use_code_for_any_processor(for_any: bool) -> None: ...

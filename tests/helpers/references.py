"""The reference of each mode: encrypt and decrypt of (key bytes, unit, dun, data)."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers import algorithms

from tests.helpers import reference_adiantum, reference_essiv, reference_xts

Transform = Callable[[bytes, int, int, bytes], bytes]


class Reference(NamedTuple):
    """Both directions of one mode."""

    encrypt: Transform
    decrypt: Transform


REFERENCES: Mapping[str, Reference] = {
    "AES-256-XTS": Reference(reference_xts.encrypt, reference_xts.decrypt),
    "AES-128-CBC-ESSIV": Reference(reference_essiv.encrypt, reference_essiv.decrypt),
    "Adiantum": Reference(reference_adiantum.encrypt, reference_adiantum.decrypt),
    "SM4-XTS": Reference(
        partial(reference_xts.encrypt, algorithm=algorithms.SM4),
        partial(reference_xts.decrypt, algorithm=algorithms.SM4),
    ),
}

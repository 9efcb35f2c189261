"""Inline encryption: keyslots, engines, fallbacks, and submit_bio, where bios enter devices."""

from fusedm.crypto.carry_out import can_carry_out_now
from fusedm.crypto.data_units import decrypt_data
from fusedm.crypto.engine import InlineEngine
from fusedm.crypto.evp import EVP_MODES, EvpCipher, libcrypto_version
from fusedm.crypto.fallback import Fallback
from fusedm.crypto.submit import (
    PatchBlock,
    Request,
    evict_key,
    make_plan,
    plan_bio,
    start_using_key,
    submit,
    submit_bio,
    submit_bio_nowait,
    submit_made,
    submit_nowait,
)

__all__ = [
    "EVP_MODES",
    "EvpCipher",
    "Fallback",
    "InlineEngine",
    "PatchBlock",
    "Request",
    "can_carry_out_now",
    "decrypt_data",
    "evict_key",
    "libcrypto_version",
    "make_plan",
    "plan_bio",
    "start_using_key",
    "submit",
    "submit_bio",
    "submit_bio_nowait",
    "submit_made",
    "submit_nowait",
]

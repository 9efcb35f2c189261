"""Inline encryption: keyslots, engines, fallbacks, and submit_bio, where bios enter devices."""

from fusedm.crypto.carry_out import can_carry_out_now, carry_out_locked, do_all, raise_first
from fusedm.crypto.cipher_spec import CipherSpec, parse_cipher_spec
from fusedm.crypto.ciphers import is_slow, make_sector_cipher
from fusedm.crypto.compiled import CompiledCipher
from fusedm.crypto.data_units import decrypt_data, runs_of_data
from fusedm.crypto.engine import InlineEngine
from fusedm.crypto.engine_faults import FAULT_KINDS, EngineFaults, Fault
from fusedm.crypto.engine_profiles import (
    BARE,
    ENGINE_PROFILES,
    MAX_KEYSLOTS,
    EngineProfile,
    engine_profile,
)
from fusedm.crypto.evp import EvpCipher, libcrypto_version
from fusedm.crypto.fallback import Fallback
from fusedm.crypto.keyslots import SlotState
from fusedm.crypto.luks_keys import open_key_slot
from fusedm.crypto.luks_slots import key_slots
from fusedm.crypto.profile import KeyslotProfile, ResetResult
from fusedm.crypto.submit import (
    PatchBlock,
    Request,
    evict_key,
    make_plan,
    not_native,
    plan_bio,
    start_using_key,
    submit,
    submit_bio,
    submit_bio_nowait,
    submit_made,
    submit_nowait,
)
from fusedm.crypto.workers import Workers
from fusedm.crypto.wrapped_keys import (
    MAX_IMPORT_SIZE,
    MIN_IMPORT_SIZE,
    SECRET_SIZE,
    KeyManager,
)

__all__ = [
    "BARE",
    "ENGINE_PROFILES",
    "FAULT_KINDS",
    "MAX_IMPORT_SIZE",
    "MAX_KEYSLOTS",
    "MIN_IMPORT_SIZE",
    "SECRET_SIZE",
    "CipherSpec",
    "CompiledCipher",
    "EngineFaults",
    "EngineProfile",
    "EvpCipher",
    "Fallback",
    "Fault",
    "InlineEngine",
    "KeyManager",
    "KeyslotProfile",
    "PatchBlock",
    "Request",
    "ResetResult",
    "SlotState",
    "Workers",
    "can_carry_out_now",
    "carry_out_locked",
    "decrypt_data",
    "do_all",
    "engine_profile",
    "evict_key",
    "is_slow",
    "key_slots",
    "libcrypto_version",
    "make_plan",
    "make_sector_cipher",
    "not_native",
    "open_key_slot",
    "parse_cipher_spec",
    "plan_bio",
    "raise_first",
    "runs_of_data",
    "start_using_key",
    "submit",
    "submit_bio",
    "submit_bio_nowait",
    "submit_made",
    "submit_nowait",
]

"""The second implementation gives what the vectors, `cryptography` and the tests' own XTS give."""

import json
from pathlib import Path
from random import Random

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fusedm.block import MODES
from fusedm.block.errors import StackError
from fusedm.inspect.independent import decrypt_unit, encrypt_unit, knows
from tests.helpers.references import REFERENCES

MODE = "AES-256-XTS"
FOLDER = Path(__file__).parents[2] / "vectors"
VECTORS = [
    pytest.param(mode, vector, id=f"{mode} {vector['name']}")
    for mode in MODES
    for vector in json.loads((FOLDER / f"{mode.lower().replace('-', '_')}.json").read_text())[
        "official"
    ]
]


@pytest.mark.parametrize("unit", [512, 1024, 4096, 65536])
@pytest.mark.parametrize("dun", [0, 1, (1 << 64) - 1, (1 << 128) - 1])
def test_xts_is_the_xts_of_others(unit, dun):
    random = Random(unit + dun % 97)
    raw, data = random.randbytes(64), random.randbytes(unit)
    other = Cipher(algorithms.AES(raw), modes.XTS(dun.to_bytes(16, "little"))).encryptor()
    found = encrypt_unit(MODE, raw, dun, data)
    assert found == other.update(data)
    assert decrypt_unit(MODE, raw, dun, found) == data


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("unit", [512, 4096, 65536])
def test_every_mode_is_what_the_references_of_the_tests_say(mode, unit):
    random = Random(unit)
    raw, data = random.randbytes(MODES[mode].key_size), random.randbytes(unit)
    found = encrypt_unit(mode, raw, 1 << 33, data)
    assert found == REFERENCES[mode].encrypt(raw, unit, 1 << 33, data)
    assert decrypt_unit(mode, raw, 1 << 33, found) == data


@pytest.mark.parametrize(("mode", "vector"), VECTORS)
def test_the_official_vectors(mode, vector):
    raw, plain = bytes.fromhex(vector["key"]), bytes.fromhex(vector["plaintext"])
    dun = int.from_bytes(bytes.fromhex(vector["iv"]), "little")
    assert encrypt_unit(mode, raw, dun, plain).hex() == vector["ciphertext"]
    assert decrypt_unit(mode, raw, dun, bytes.fromhex(vector["ciphertext"])) == plain


def test_there_is_a_second_opinion_on_every_mode():
    assert all(knows(mode) for mode in MODES)


@pytest.mark.parametrize("transform", [encrypt_unit, decrypt_unit])
def test_a_mode_that_is_not_known_is_refused_by_name(transform):
    with pytest.raises(StackError, match="mode ROT-13: there is no independent implementation"):
        transform("ROT-13", b"", 0, b"")

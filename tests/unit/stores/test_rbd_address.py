"""Addresses of RBD images."""

from pathlib import Path

import pytest

from fusedm.block.errors import StoreError
from fusedm.stores.rbd.address import Address, parse_address, prefixed_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("rbd:p/i", Address("p", "", "i", "")),
        ("rbd:p/n/i@s", Address("p", "n", "i", "s")),
        ("rbd:p/i?", Address("p", "", "i", "")),
        (
            "rbd:p/i?conf=/etc/a%20b.conf&id=joe&timeout=5",
            Address("p", "", "i", "", Path("/etc/a b.conf"), "joe", 5),
        ),
        ("rbd:p/i?id=client.joe", Address("p", "", "i", "", user="joe")),
    ],
)
def test_an_address_is_read(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["rbd:p/i", "rbd:p/n/i", "rbd:p/n/i@s"])
def test_an_address_is_told_without_its_options(text: str) -> None:
    assert str(parse_address(text + "?conf=/x&id=joe")) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rbd:", "'rbd:': is not rbd:POOL/IMAGE or rbd:POOL/NAMESPACE/IMAGE@SNAPSHOT"),
        ("rbd:image", "'rbd:image': is not rbd:POOL/IMAGE"),
        ("rbd:a/b/c/d", "is not rbd:POOL/IMAGE"),
        ("rbd:p/i@", "is not rbd:POOL/IMAGE"),
        ("rbd:p/i@a@b", "is not rbd:POOL/IMAGE"),
        ("rbd:p/i?timeout=0", "timeout 0 is not in 1..86400 seconds"),
        ("rbd:p/i?timeout=86401", "timeout 86401 is not in 1..86400 seconds"),
        ("rbd:p/i?timeout=1.5", "timeout 1.5 is not in 1..86400 seconds"),
        ("rbd:p/i?timeout=²", "timeout ² is not in 1..86400 seconds"),
        ("rbd:p/i?conf", "give conf once, with a value"),
        ("rbd:p/i?id=a&id=b", "give id once, with a value"),
    ],
)
def test_what_is_no_address_is_refused_with_its_text(text: str, says: str) -> None:
    with pytest.raises(StoreError, match="rbd") as refused:
        parse_address(text)
    assert says in str(refused.value)


def test_an_unknown_option_is_named_without_what_it_was_given() -> None:
    with pytest.raises(StoreError, match="key is not one of conf, id, timeout") as refused:
        parse_address("rbd:p/i?key=AQsecret==")
    assert "AQ" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "prefixed"),
    [
        ("rbd:p/i", "rbd:p/i"),
        ("rbd:p/i?conf=/c&id=a", "rbd:p/i?conf=/c&id=a"),
        ("rbd:p/i?id=a&conf=c%20d", "rbd:p/i?id=a&conf=/my%20folder/c%20d"),
    ],
)
def test_a_conf_is_relative_to_the_folder_of_the_stack_file(text: str, prefixed: str) -> None:
    assert prefixed_address(text, Path("/my folder")) == prefixed
    with pytest.raises(StoreError, match="is not rbd:POOL/IMAGE"):
        prefixed_address("rbd:nix", Path("/"))

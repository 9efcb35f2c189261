"""NBD URIs: what they name, and what of one is refused."""

import pytest

from fusedm.nbd import Address, parse_uri, with_folder


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("nbd://example.org/disk", Address("disk", "example.org")),
        ("nbd://example.org:1234/a/b", Address("a/b", "example.org", 1234)),
        ("nbd://[::1]:1234/", Address("", "::1", 1234)),
        ("nbd:///disk", Address("disk", "localhost")),
        ("nbd://h/with%20space", Address("with space", "h")),
        ("nbd://h/d?timeout=2.5", Address("d", "h", timeout_seconds=2.5)),
        ("nbd+unix:///d?socket=/run/a%20b", Address("d", "", 0, "/run/a b")),
        (
            "nbds://h/d?tls-certificates=/etc/pki",
            Address("d", "h", is_tls=True, certificates="/etc/pki", hostname="h"),
        ),
        ("nbds://h/d?tls-hostname=other", Address("d", "h", is_tls=True, hostname="other")),
        ("nbds+unix:///?socket=/s", Address("", "", 0, "/s", is_tls=True)),
        (
            "nbds+unix:///?socket=/s&tls-hostname=o",
            Address("", "", 0, "/s", is_tls=True, hostname="o"),
        ),
    ],
)
def test_a_uri_names_an_address(text: str, address: Address) -> None:
    assert parse_uri(text) == address


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nbd://h:port/", "Port could not be cast"),
        ("nbd://[::1/", "Invalid IPv6 URL"),
        ("rbd:pool/image", "'rbd' is not one of nbd, nbds, nbd+unix, nbds+unix"),
        ("nbd://h/d#part", "a fragment (#) or a user (@) means nothing here"),
        ("nbds://me@h/d", "a fragment (#) or a user (@) means nothing here"),
        ("nbd://h/d?tls-certificates=/a", "tls-certificates needs nbds"),
        ("nbd+unix:///d?socket=/s&tls-hostname=a", "tls-hostname needs nbds+unix"),
        ("nbd://h/" + "n" * 4097, "at most 4096 bytes"),
        ("nbd://h/a%00b", "no zeros"),
        ("nbds://h/d?tls-certificates=a/b", "tls-certificates 'a/b' is not an absolute path"),
        ("nbd+unix:///d", "socket '' is not an absolute path"),
        ("nbd+unix:///d?socket=s", "socket 's' is not an absolute path"),
        ("nbd+unix://h/d?socket=/s", "'h' is a host, and a unix socket has none"),
        ("nbd://h/d?socket=/s", "a socket needs nbd+unix"),
        ("nbd://h/d?time=1", "'time' is not one of socket, timeout"),
        ("nbd://h/d?timeout=1&timeout=2", "timeout is given twice"),
        ("nbd://h/d?timeout=soon", "timeout 'soon' is not a number of seconds above 0"),
        ("nbd://h/d?timeout=0", "timeout '0' is not"),
        ("nbd://h/d?timeout=inf", "timeout 'inf' is not"),
    ],
)
def test_what_means_nothing_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=".") as refused:
        parse_uri(text)
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "absolute"),
    [
        ("nbd://h/d", "nbd://h/d"),
        ("nbd+unix:///d?socket=/s&timeout=3", "nbd+unix:///d?socket=/s&timeout=3"),
        ("nbd+unix:///d?timeout=3&socket=a%20b", "nbd+unix:///d?timeout=3&socket=/f/a%20b"),
        (
            "nbds+unix:///d?socket=/s&tls-certificates=k",
            "nbds+unix:///d?socket=/s&tls-certificates=/f/k",
        ),
    ],
)
def test_relative_paths_get_a_folder(text: str, absolute: str) -> None:
    assert with_folder(text, "/f") == absolute


def test_an_address_is_told_by_where_it_is_and_not_by_its_certificates() -> None:
    assert str(parse_uri("nbds://h:1/d?tls-certificates=/k")) == "NBD export 'd' at h:1"
    assert str(parse_uri("nbd+unix:///d?socket=/s")) == "NBD export 'd' at /s"

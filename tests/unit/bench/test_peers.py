"""What is run beside ours: what is missing, and what is kept secret."""

from io import StringIO

import pytest

from fusedm.bench.entrants import PACKAGES, missing_programs
from fusedm.bench.peers import parse_openssl, passphrase_file
from fusedm.bench.place import Place
from fusedm.bench.rounds import all_entrants
from fusedm.block.errors import StackError
from fusedm.cli.progress import Progress


def test_openssl_says_mebibytes_a_second():
    said = "Got: +H:4096 from 0\n+H:4096\n+F:22:AES-256-XTS:5242880000.00\n"
    assert parse_openssl(said) == 5000


@pytest.mark.parametrize("said", ["", "+F:22:AES-256-XTS:fast", "AES-256-XTS 5440876.54k"])
def test_what_openssl_did_not_say_is_no_figure(said):
    with pytest.raises(StackError, match="openssl printed no result"):
        parse_openssl(said)


def test_the_passphrase_is_in_one_file_that_only_its_owner_reads(tmp_path):
    place = Place(tmp_path, Progress(StringIO()))
    path = passphrase_file(place)
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(path.read_text()) == 64
    assert passphrase_file(place).read_text() == path.read_text()


def test_every_program_that_is_needed_has_a_package():
    needed = {program for entrant in all_entrants().values() for program in entrant.needs}
    assert needed <= set(PACKAGES)


def test_what_is_missing_is_named_with_its_packages(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(PACKAGES, "no-such-program", "some-package")
    monkeypatch.setitem(PACKAGES, "nor-this", "some-package")
    assert missing_programs(()) is None
    assert (
        missing_programs(("no-such-program",))
        == "no-such-program is not installed (apt-get install some-package)"
    )
    assert (
        missing_programs(("no-such-program", "nor-this"))
        == "no-such-program, nor-this are not installed (apt-get install some-package)"
    )

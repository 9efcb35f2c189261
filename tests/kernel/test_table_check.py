"""What the checker of tables says the kernel would say is what the kernel says."""

from collections.abc import Mapping

import pytest

from fusedm.tables import Severity, check_text
from fusedm.tables.masking import masked, squeezed
from fusedm.tables.words import split_words
from tests.helpers.table_lines import GOOD, KERNEL_ONLY, ODD
from tests.helpers.table_lint import with_keys
from tests.helpers.uml.experiment import DiskSpec, Experiment, Outcome, step

pytestmark = pytest.mark.kernel

DISKS = {name: DiskSpec(32768) for name in ("d0", "d1", "d2", "d3", "d5", "d9")}

#: Targets this kernel has not, or cannot have without a page for them.
MISSING = ("inlinecrypt", "default-key", "ebs")

#: What else is needed than a line: devices, keys, ciphers, metadata; by words that lines have.
NEEDS_MORE = (
    *("/dev/", "8:16", "linear - ", ":user:", ":logon:", "rebuild 0", "thin d0 1", "meta_device"),
    *(
        "authenc",
        "gcm",
        "adiantum",
        "tcw",
        "lrw",
        "twofish",
        "ctr",
        "blowfish",
        "aesni",
        "sha3",
        "raid10",
    ),
    *("journal_mac", "delta_disks"),
)

#: Where the kernel that is here is older than the one that is described, 7.2.
LATER = {
    "flakey": "error_reads, random corruption and the names of the default came later",
    "error d0 12x": "its arguments were not looked at",
    "snapshot-merge d0 d1 N 8": "it was not refused",
    "writecache p": "without persistent memory it is refused before its options are read",
}

LINES = [
    line
    for line, *_ in [*GOOD, *KERNEL_ONLY, *ODD]
    if line.split()[0] not in MISSING
    and not any(words in line for words in NEEDS_MORE)
    and not line.startswith(tuple(LATER))
]

EXPERIMENTS = {
    line: Experiment(
        (
            step("create", "x"),
            step("load", "x", f"0 8192 {with_keys(line)}"),
            step("table", "x", True),
        ),
        DISKS,
    )
    for line in LINES
}


@pytest.mark.parametrize("line", EXPERIMENTS)
def test_the_kernel_says_what_the_checker_says(kernel: Mapping[str, Outcome], line: str) -> None:
    report = check_text(f"0 8192 {with_keys(line)}")
    refusals = [f.kernel.name for f in report.findings if f.severity is Severity.ERROR]
    _, loaded, table = kernel[line].answers
    assert loaded.get("errno", "") == next((name for name in refusals if name), "")
    printed = report.tables[0].lines[0].printed
    if not printed:
        return
    text = table["text"]
    assert squeezed(masked(text, split_words(text))).rstrip() == printed.rstrip()

"""The table of the README from a result: .venv/bin/python -m tests.bench.readme_table RECORD.json

Replaces what stands between the two marks: rounds, machine and versions, then a row for each ratio.
What could not be run is left out and counted. Never collected by pytest.
"""

import re
import sys
from pathlib import Path

from fusedm.bench import Record, from_json, rows

README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- bench table -->", "<!-- end of bench table -->"


def table(record: Record) -> str:
    """The text between the marks."""
    told, versions = record.conditions, record.versions
    disk = f", {told['disk medium']} on the disk" if "disk medium" in told else ""
    qemu = re.sub(r".*version (\S+).*", r"QEMU \1", versions["qemu-storage-daemon"])
    peers = ", ".join(name for name in (qemu, versions["nbdkit"]) if name != "-")
    lines = [
        f"The result of one run of {record.arguments['rounds']} rounds, "
        f"{record.arguments['seconds']:g} s a job, on {told['cores']} cores ({told['cpu']}), "
        f"Linux {versions['kernel']}{disk},",
        f"{peers}: medians of ratios, the least and the most of the rounds in brackets. "
        f"Of {len(record.ratios) + len(record.not_run)} pairs {len(record.not_run)} could not run.",
        "",
        "| job | device | against | ratio | goal |",
        "|---|---|---|---|---|",
    ]
    for job, device, _, against, _, ratio, goal in rows(record)[1:]:
        if not ratio.startswith("not run"):
            said = goal.replace(" MISSED", ", **missed**").replace(" met", ", met")
            lines.append(f"| {job} | {device} | {against} | {ratio} | {said} |")
    return "\n".join(lines)


def main() -> None:
    """Write it into the README."""
    record = from_json(Path(sys.argv[1]).read_text(), sys.argv[1])
    before, _, rest = README.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n{table(record)}\n{END}{after}")


if __name__ == "__main__":
    main()

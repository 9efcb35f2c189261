"""The command line, continued: tables as text, without a running stack."""

import json
import sys

import click

from fusedm.cli.devices import read_table
from fusedm.tables import Severity, check_text, explain, told

EXIT_FOUND = 1


@click.group("table")
def table_group() -> None:
    """Device-mapper tables as text: no stack need be running, and nothing is loaded.

    Exit codes: 0 in order, 1 something is wrong, 2 asked for wrongly.
    """


@table_group.command("check")
@click.argument("file", metavar="FILE|-")
@click.option("--explain", "explained", is_flag=True, help="Name every field, with unit and size.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, the explanation included.")
@click.option("--concise", is_flag=True, help="It is dmsetup's concise form; else found out.")
@click.option("--readonly", is_flag=True, help="It is going to be loaded read-only.")
@click.option("--werror", is_flag=True, help="Exit with 1 if there are warnings, too.")
def table_check(
    file: str, explained: bool, as_json: bool, concise: bool, readonly: bool, werror: bool
) -> None:
    """Check the device-mapper table in FILE (- is standard input), as dmsetup takes or prints it.

    The targets of the kernel are known, also those fusedm does not run. Each finding says what the
    kernel would say to it: the errno, when, and why. Lines with `name: ` before them (several
    devices of dmsetup table) and dmsetup's concise form are read as well. Key bytes are not shown.

    Exit codes: 0 it would be accepted, 1 it would not, or FILE cannot be read, 2 usage.
    """
    report = check_text(read_table(file, None), concise, True if readonly else None)
    errors = report.count(Severity.ERROR)
    warnings = report.count(Severity.WARNING)
    name = "<stdin>" if file == "-" else file
    if as_json:
        result = {
            "file": name,
            "errors": errors,
            "warnings": warnings,
            "findings": [found.told() for found in report.findings],
            "tables": told(report),
        }
        click.echo(json.dumps(result, indent=2))
    else:
        if explained and report.tables:
            click.echo(explain(report))
        for found in report.findings:
            click.echo(found.show(name))
    if errors or (werror and warnings):
        sys.exit(EXIT_FOUND)

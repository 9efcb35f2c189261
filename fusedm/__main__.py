"""`python -m fusedm`, and the command `fusedm`."""

import sys


def main() -> None:
    """Run the command line; dmsetup, which scripts call many times, without loading all of it."""
    if sys.argv[1:2] == ["dmsetup"]:
        from fusedm.dmsetup import main_dmsetup

        sys.exit(main_dmsetup(sys.argv[2:]))
    from fusedm.cli import main as run

    run()


if __name__ == "__main__":
    main()

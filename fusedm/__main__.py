"""`python -m fusedm`, and the command `fusedm`."""

import signal
import sys

from fusedm.host.secrecy import keep_secrets
from fusedm.host.streams import open_closed_streams


def main() -> None:
    """Run the command line; dmsetup, which scripts call many times, without loading all of it.

    While Python loads what it needs, and at its end, an interrupt just ends the process: there is
    nothing to undo, and a traceback of imports helps nobody. One that came while Python itself was
    starting may have been held until now (see scripts/setup.sh).
    """
    open_closed_streams()
    keep_secrets()
    heard = signal.getsignal(signal.SIGINT)
    quiet = signal.SIG_DFL if heard is signal.default_int_handler else heard
    signal.signal(signal.SIGINT, quiet)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    if sys.argv[1:2] == ["dmsetup"]:
        from fusedm.dmsetup import main_dmsetup

        def run() -> None:
            sys.exit(main_dmsetup(sys.argv[2:]))
    else:
        from fusedm.cli import main as run
    try:
        signal.signal(signal.SIGINT, heard)
        run()
    finally:
        signal.signal(signal.SIGINT, quiet)


if __name__ == "__main__":
    main()

"""fusedm's own dmsetup on a list of command lines, in one process; run by test_dmsetup.py.

Its argument is the list; the answers, as guest.py gives them, go to standard output.
"""

import io
import json
import sys
from typing import Any

from fusedm.dmsetup.command import Streams
from fusedm.dmsetup.run import run


def answer(words: list[str], text: str) -> dict[str, Any]:
    """One command line."""
    streams = Streams(io.StringIO(text), io.StringIO(), io.StringIO())
    code = run(words, streams)
    return {"code": code, "out": streams.stdout.getvalue(), "err": streams.stderr.getvalue()}


def main() -> None:
    """All lines; no device is left."""
    answers = [answer(words, text) for words, text in json.loads(sys.argv[1])]
    answer(["remove_all", "--force"], "")
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()

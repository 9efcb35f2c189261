"""The benchmark: fio, file systems and peers in turns, ratios of the same round, and the record."""

from fusedm.bench.conditions import conditions
from fusedm.bench.fio import FioResult, run_fio
from fusedm.bench.jobs import FIO_JOBS
from fusedm.bench.place import DEFAULT_FOLDER
from fusedm.bench.plot import check_plot, draw
from fusedm.bench.record import Record, fallen, from_json, to_json, uncompared
from fusedm.bench.report import NO_RESULT, rows
from fusedm.bench.run import MIN_ROUNDS, Options, run_layers, run_memory, run_pairs

__all__ = [
    "DEFAULT_FOLDER",
    "FIO_JOBS",
    "MIN_ROUNDS",
    "NO_RESULT",
    "FioResult",
    "Options",
    "Record",
    "check_plot",
    "conditions",
    "draw",
    "fallen",
    "from_json",
    "rows",
    "run_fio",
    "run_layers",
    "run_memory",
    "run_pairs",
    "to_json",
    "uncompared",
]

"""fio's job files and its JSON."""

import configparser
import json

import pytest

from fusedm.bench.fio import fio_command, parse_fio
from fusedm.bench.jobs import (
    FIO_JOBS,
    JOBS,
    JOBS_FOLDER,
    MIXED_FILE,
    NBD_JOBS,
    NEIGHBOUR_FILE,
)
from fusedm.block.errors import StackError


def printed(read_iops=0, write_iops=0, error=0, **change):
    """What fio prints for a job."""

    def side(iops):
        return {
            "total_ios": iops,
            "iops": iops,
            "bw_bytes": iops * 4096,
            "clat_ns": {"percentile": {"99.000000": 5000}} if iops else {},
        }

    job = {"error": error, "read": side(read_iops), "write": side(write_iops), **change}
    return json.dumps({"jobs": [job]})


def test_the_side_that_did_the_work_is_read():
    assert parse_fio(printed(read_iops=512)).iops == 512
    assert parse_fio(printed(write_iops=256)).mib_per_second == 1
    assert parse_fio(printed(write_iops=256)).p99_us == 5


def test_a_figure_is_in_the_unit_that_is_asked_for():
    found = parse_fio(printed(read_iops=512))
    assert (found.figure("IOPS"), found.figure("MiB/s")) == (512, 2)


def test_warnings_before_the_result_are_skipped():
    assert parse_fio("note: both iodepth\n" + printed(read_iops=1)).iops == 1


@pytest.mark.parametrize(
    "output", ["", "fio: nothing", "{", "{}", '{"jobs": []}', '{"jobs": [{}]}', '{"jobs": [null]}']
)
def test_what_is_no_result_is_refused(output):
    with pytest.raises(StackError, match="fio printed no result"):
        parse_fio(output)


def test_a_job_that_did_nothing_is_no_figure():
    with pytest.raises(StackError, match="error 0, 0 requests"):
        parse_fio(printed())


def test_a_job_that_failed_is_no_figure():
    with pytest.raises(StackError, match="error 5, 9 requests"):
        parse_fio(printed(read_iops=9, error=5))


def test_a_colon_in_a_path_does_not_make_it_two_files(tmp_path):
    command = fio_command(FIO_JOBS[0].file, "/a:b", tmp_path, 0.3)
    assert r"--filename=/a\:b" in command
    assert "--runtime=300ms" in command
    assert command[-1] == str(FIO_JOBS[0].file)


def test_every_job_has_its_file_and_every_file_its_job():
    used = {job.file for job in JOBS if job.fio_job} | {MIXED_FILE, NEIGHBOUR_FILE}
    assert used == set(JOBS_FOLDER.glob("*.fio"))


@pytest.mark.parametrize("file", sorted(JOBS_FOLDER.glob("*.fio")), ids=lambda file: file.stem)
def test_every_job_goes_past_the_page_cache_for_a_time(file):
    options = configparser.ConfigParser(allow_no_value=True)
    options.read_string(file.read_text())
    over_nbd = file.stem.startswith("nbd-")
    assert options["global"]["ioengine"] == ("nbd" if over_nbd else "libaio")
    # An NBD server is asked over a socket, where there is no page cache.
    assert over_nbd or options["global"]["direct"] == "1"
    assert {"time_based", "thread"} <= set(options["global"])


@pytest.mark.parametrize("job", [*FIO_JOBS, *NBD_JOBS], ids=lambda job: job.name)
def test_a_job_file_does_what_its_name_says(job):
    options = configparser.ConfigParser(allow_no_value=True)
    options.read_string(job.file.read_text())
    rw, block, depth, *connections = job.name.removeprefix("nbd-").split("-")
    assert options["global"].get("numjobs", "") == "".join(connections).removeprefix("c")
    section = options[job.name]
    assert (section["rw"], section["bs"], "d" + section["iodepth"]) == (rw, block, depth)

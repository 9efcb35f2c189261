"""What mount(8) says."""

import pytest

from fusedm.block.errors import UsageError
from fusedm.cli.main import is_mount_call
from fusedm.cli.mount_helper import MountCall, parse_mount_call
from fusedm.host.kernel_mount import MountOptions

VERBS = ["up", "down", "ls"]


def test_a_file_and_a_directory_without_a_verb_are_a_mount_call():
    assert is_mount_call(["s.toml", "/mnt"], VERBS)
    assert is_mount_call(["/a/s.toml", "/mnt", "-o", "rw"], VERBS)


@pytest.mark.parametrize("words", [[], ["s.toml"], ["up", "s.toml"], ["--help", "x"]])
def test_anything_else_is_left_to_the_verbs(words):
    assert not is_mount_call(words, VERBS)


def test_options_of_a_mount_are_taken_from_every_o():
    call = parse_mount_call(["s.toml", "/mnt", "-o", "rw,allow_other", "-o", "allow_root,nodev"])
    assert call == MountCall("s.toml", "/mnt", MountOptions(allow_other=True, allow_root=True))


def test_the_lane_can_be_left_out():
    call = parse_mount_call(["s.toml", "/mnt", "-o", "no_lane"])
    assert call.options == MountOptions(lane=False)


def test_without_options_the_mount_is_private():
    assert parse_mount_call(["s.toml", "/mnt"]).options == MountOptions()


@pytest.mark.parametrize(
    "words",
    [
        "rw,nosuid,nodev,noatime,relatime",
        "defaults,noauto,user,_netdev,nofail",
        "x-systemd.automount,x-gvfs-hide,comment=a",
        ",rw,,",
        "",
    ],
)
def test_what_mount_deals_with_itself_is_passed_over(words):
    assert parse_mount_call(["s.toml", "/mnt", "-o", words]).options == MountOptions()


@pytest.mark.parametrize("flag", ["-n", "-s", "-v"])
def test_the_flags_mount_may_add_are_passed_over(flag):
    call = parse_mount_call(["s.toml", "/mnt", flag, "-o", "allow_root"])
    assert call.options == MountOptions(allow_root=True)


@pytest.mark.parametrize("word", ["allow_others", "ro", "uid=5", "X", "xfs"])
def test_an_unknown_option_is_refused_by_name(word):
    with pytest.raises(UsageError, match=f"^mount option '{word}' is unknown$"):
        parse_mount_call(["s.toml", "/mnt", "-o", f"rw,{word}"])


@pytest.mark.parametrize("rest", [["--foreground"], ["x"], ["-o"], ["-t", "fuse"]])
def test_words_that_are_no_mount_options_point_at_the_help(rest):
    with pytest.raises(UsageError, match="'updown' is not a verb, and .* see `fusedm --help`"):
        parse_mount_call(["updown", "/mnt", *rest])


def test_core_dumps_can_be_allowed():
    assert parse_mount_call(["s.toml", "/mnt", "-o", "allow_core"]).allow_core
    assert not parse_mount_call(["s.toml", "/mnt"]).allow_core

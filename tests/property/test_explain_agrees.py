"""What `explain` says of a write is what the write then changes on the media, and nothing else."""

import trio
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from fusedm.block.errors import WouldBlock
from fusedm.crypto import submit_nowait
from fusedm.files.device_file import write as write_file
from fusedm.files.handles import OpenDevice
from fusedm.files.path import KINDS
from fusedm.files.paths import Paths
from fusedm.inspect.explain import COMPILED, ON_THE_SPOT, explain, make_requests
from tests.helpers import reference_xts
from tests.helpers.builders import make_key, medium, pattern
from tests.helpers.random_stacks import SIZE, build, stacks, system_of

UNITS = st.sampled_from([512, 1024, 4096])


def leaves(steps):
    """Every leaf step that changes its medium, in order."""
    for step in steps:
        if step["step"] == "leaf" and step["op"] == "write":
            yield step
        yield from leaves(step.get("steps", ()))


def crypto_points(steps):
    """(first DUN, leaf steps below) of every place where a write is encrypted."""
    for step in steps:
        if step["step"] == "fallback" and step["op"] == "write":
            yield step["dun"][0], list(leaves(step["steps"]))
        elif step["step"] == "leaf" and step["native"] and step["op"] == "write":
            yield step["dun"][0], [step]
        else:
            yield from crypto_points(step.get("steps", ()))


@settings(max_examples=40)
@given(stacks(), UNITS, st.sampled_from([0, 7, (1 << 40) + 3]), st.data())
def test_a_write_changes_the_bytes_that_were_said_under_the_dun_that_was_said(
    stack, unit, base, data
):
    async def main():
        mapped, disks = await build(stack)
        key = make_key("k", unit)
        system = system_of(mapped, disks, v=(key, base))
        view = system.view("v")
        offset = data.draw(st.integers(0, view.size - 1))
        length = data.draw(st.integers(1, view.size - offset))
        for disk in disks:  # No sector stays as it is by chance.
            disk.store.pwrite(0, pattern(disk.store.size, 1))
        before = {disk.name: medium(disk) for disk in disks}
        told = explain(system, "v", offset, length, write=True)
        assert {disk.name: medium(disk) for disk in disks} == before
        await write_file(view, offset, memoryview(pattern(length, 2)))
        after = {disk.name: medium(disk) for disk in disks}

        places = [
            (leaf["device"], sector)
            for request in told["requests"]
            for leaf in leaves(request["steps"])
            for sector in range(leaf["begin_byte"] // 512, leaf["end_byte"] // 512)
        ]
        assume(len(places) == len(set(places)))  # Else a place is written twice.
        said = {
            kind: {
                (leaf["device"], sector)
                for request in told["requests"]
                if request["kind"] == kind
                for leaf in leaves(request["steps"])
                for sector in range(leaf["begin_byte"] // 512, leaf["end_byte"] // 512)
            }
            for kind in ("write", "patch")
        }
        changed = {
            (name, at // 512)
            for name in before
            for at in range(0, SIZE * 1024, 512)
            if before[name][at : at + 512] != after[name][at : at + 512]
        }
        # A patch writes all of its block, but what is far from its bytes stays as it was.
        assert said["write"] <= changed <= said["write"] | said["patch"]
        written = bytearray(view.size)
        written[offset : offset + length] = pattern(length, 2)
        for request in told["requests"]:
            for dun, below in crypto_points(request["steps"]):
                raw = b"".join(
                    after[one["device"]][one["begin_byte"] : one["end_byte"]] for one in below
                )
                at = (dun - base) * unit
                if not len(raw) or len(raw) % unit:
                    continue  # A part of it has no medium.
                plain = reference_xts.decrypt(bytes(key.raw), unit, dun, raw)
                begin, end = max(offset - at, 0), min(offset + length - at, len(raw))
                assert plain[begin:end] == written[at + begin : at + end]

    trio.run(main, clock=MockClock(autojump_threshold=0))


@settings(max_examples=40)
@given(stacks(("linear", "linear", "striped", "delay")), UNITS, st.data())
def test_who_answers_is_who_was_said_to(stack, unit, data):
    async def main():
        mapped, disks = await build(stack)
        system = system_of(mapped, disks, v=(make_key("k", unit), 0))
        view = system.view(data.draw(st.sampled_from(["v", "top", "d0"])))
        handle = OpenDevice(view, False)
        paths = Paths({1: handle}, system)
        for _ in range(8):
            blocks = view.size // view.block_size
            offset = data.draw(st.integers(0, blocks - 1)) * view.block_size
            offset += data.draw(st.sampled_from([0, 0, 0, 5]))
            length = data.draw(st.integers(1, min(16, blocks))) * view.block_size
            write = data.draw(st.booleans())
            told = explain(system, view.name, offset, length, write)
            compiled = paths.find(1, KINDS.index("write" if write else "read"), offset, length)
            paths.close()
            assert (told["answered"] == COMPILED) == compiled, told
            if offset + length > view.size:
                continue
            try:
                submit_nowait(view.device, make_requests(view, offset, length, write))
                at_once = True
            except WouldBlock:
                at_once = False
                await write_file(view, offset, memoryview(bytes(length)))
            assert (told["answered"] in (COMPILED, ON_THE_SPOT)) == at_once, told

    trio.run(main, clock=MockClock(autojump_threshold=0))

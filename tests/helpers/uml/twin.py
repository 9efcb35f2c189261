"""fusedm's side of an experiment: the same steps through its Python API, in no time."""

import base64
import errno
from collections.abc import Awaitable, Callable
from dataclasses import asdict

import trio
import trio.testing

from fusedm.block import Bio, Op
from fusedm.block.errors import BlockIOError, FusedmError
from fusedm.crypto import submit_bio
from fusedm.disk import Disk
from fusedm.dm import format_status, format_table
from fusedm.stores import MemoryStore
from fusedm.system import System
from tests.helpers.builders import contents
from tests.helpers.uml.experiment import Answer, Experiment, Outcome, Step
from tests.helpers.uml.guest_data import content, noise, sums


class Twin:
    """A stack of the experiment's disks, and the verbs of the kernel's side."""

    def __init__(self, experiment: Experiment) -> None:
        # Strict: it is the kernel that is compared with.
        self.system = System(trio.current_time, strict=True)
        for name, spec in experiment.disks.items():
            store = MemoryStore(spec.sectors * 512, spec.block_size)
            store.pwrite(0, memoryview(content(**asdict(spec))))
            self.system.add_disk(Disk(name, store))

    async def carry_out(self, step: Step) -> Answer:
        """One step."""
        method: Callable[..., Awaitable[Answer]] = getattr(self, step.verb)
        try:
            return await method(*step.arguments)
        except FusedmError as error:
            return {"errno": errno.errorcode[error.errno]}

    def images(self) -> dict[str, list[int]]:
        """What the disks hold."""
        return {name: sums(contents(disk.store)) for name, disk in self.system.disks.items()}

    async def create(self, name: str) -> Answer:
        """A device without a table."""
        self.system.add_mapped(name)
        return {}

    async def remove(self, name: str) -> Answer:
        """Remove a device."""
        self.system.remove_mapped(name)
        await self.system.settle()
        return {}

    async def rename(self, name: str, new: str) -> Answer:
        """Call a device something else."""
        self.system.rename_mapped(name, new)
        return {}

    async def load(self, name: str, table: str, read_only: bool = False) -> Answer:
        """Fill the inactive slot."""
        await self.system.load_opened(name, table, read_only)
        return {}

    async def resume(self, name: str) -> Answer:
        """Let bios in, through the new table if there is one."""
        await self.system.resume(name)
        return {}

    async def suspend(self, name: str) -> Answer:
        """Let no bios in."""
        await self.system.mapped_device(name).suspend()
        return {}

    async def clear(self, name: str) -> Answer:
        """Empty the inactive slot."""
        self.system.clear(name)
        return {}

    async def table(self, name: str, inactive: bool = False) -> Answer:
        """The text of a table."""
        mapped = self.system.mapped_device(name)
        table = mapped.inactive if inactive else mapped.live
        return {"text": format_table(table, show_keys=True) if table else ""}

    async def status(self, name: str) -> Answer:
        """What the targets of the live table say."""
        live = self.system.mapped_device(name).live
        return {"text": format_status(live) if live else ""}

    async def status_when(self, name: str, wanted: str) -> Answer:
        """The same: what the kernel leaves to a thread has been done here."""
        return await self.status(name)

    async def info(self, name: str) -> Answer:
        """State, tables and targets."""
        mapped = self.system.mapped_device(name)
        slots = (("live", mapped.live), ("inactive", mapped.inactive))
        shown = mapped.live
        return {
            "suspended": mapped.suspended,
            "read_only": mapped.read_only,
            "tables": [word for word, table in slots if table],
            "targets": len(shown.entries) if shown else 0,
            "events": mapped.event_number,
        }

    async def deps(self, name: str) -> Answer:
        """What lies below, in no order."""
        live = self.system.mapped_device(name).live
        return {"devices": sorted(device.name for device in live.devices()) if live else []}

    async def message(self, name: str, sector: int, words: str) -> Answer:
        """Say something to the target of a sector; its reply."""
        return {"reply": await self.system.mapped_device(name).message(sector, words.split())}

    async def read(self, name: str, offset: int, length: int) -> Answer:
        """The bytes at an offset, as one bio."""
        data = bytearray(length)
        await self._submit(name, Bio.read(offset // 512, memoryview(data)))
        return {"sectors": sums(data)}

    async def peek(self, name: str, offset: int, length: int) -> Answer:
        """The bytes themselves, in base64."""
        data = bytearray(length)
        await self._submit(name, Bio.read(offset // 512, memoryview(data)))
        return {"bytes": base64.b64encode(data).decode()}

    async def write(self, name: str, offset: int, length: int, seed: int) -> Answer:
        """Write noise at an offset, as one bio."""
        return await self._write(name, offset, noise(seed, length))

    async def _write(self, name: str, offset: int, data: bytes) -> Answer:
        await self._submit(name, Bio.write(offset // 512, memoryview(data)))
        return {}

    async def discard(self, name: str, offset: int, length: int) -> Answer:
        """Give a range up."""
        await self._submit(name, Bio(Op.DISCARD, offset // 512, length // 512))
        return {}

    async def zero(self, name: str, offset: int, length: int) -> Answer:
        """Have a range zeroed; as the kernel's block layer, by writing if there is no other way."""
        try:
            await self._submit(name, Bio(Op.WRITE_ZEROES, offset // 512, length // 512))
        except BlockIOError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            await self._write(name, offset, bytes(length))
        return {}

    async def flush(self, name: str) -> Answer:
        """Make durable what was written."""
        await self._submit(name, Bio(Op.FLUSH, 0, 0))
        return {}

    async def sleep(self, seconds: float) -> Answer:
        """Let time go by."""
        await trio.sleep(seconds)
        return {}

    async def _submit(self, name: str, bio: Bio) -> None:
        await submit_bio(self.system.device(name), bio)


def carry_out(experiment: Experiment) -> Outcome:
    """An experiment on a stack of its own, whose clock jumps."""

    async def main() -> Outcome:
        twin = Twin(experiment)
        try:
            answers = [await twin.carry_out(step) for step in experiment.steps]
            return Outcome(answers, twin.images() if experiment.images else {})
        finally:
            await twin.system.close()

    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

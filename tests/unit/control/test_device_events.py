"""Waiting for the events of a mapped device, by its verb."""

from trio.testing import wait_all_tasks_blocked

from tests.helpers.commands import verbs


async def test_a_wait_ends_with_the_next_event(tmp_path, nursery):
    async with verbs(tmp_path) as stack:
        told = []

        async def wait() -> None:
            told.append((await stack.call("dm.wait", name="dm0", event=0)).event_number)

        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        assert told == []
        stack.stack.system.mapped_device("dm0").raise_event()
        await wait_all_tasks_blocked()
        assert told == [1]
        assert (await stack.call("dm.wait", name="dm0", event=0)).event_number == 1
        assert (await stack.call("dm.show", name="dm0"))["events"] == 1

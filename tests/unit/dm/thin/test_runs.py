"""How far the answer of a lookup goes on, beside looking up one by one."""

from random import Random

import pytest

from tests.helpers.builders import make_disk
from tests.helpers.thin_stack import BLOCK, Stack


@pytest.mark.parametrize("seed", range(3))
async def test_a_run_is_as_long_as_lookups_one_by_one_say(seed):
    random = Random(seed)
    stack = await Stack(blocks=3000, meta=make_disk("meta", 8 * 1024)).make()
    await stack.thin(0, 3000 * BLOCK)
    metadata = stack.inside.metadata
    block = 0
    while block < 2500:
        count = random.choice([1, 2, 150, 600])
        if random.random() < 0.7:
            for each in range(block, block + count):
                metadata.insert(0, each, metadata.allocate())
        if random.random() < 0.2:
            await stack.say(f"create_snap {block + 1} 0")
        block += count
    for _ in range(400):
        begin, limit = random.randrange(2800), random.choice([1, 10, 300, 1500])
        found = metadata.lookup(0, begin)
        count = 1
        while count < limit and metadata.lookup(0, begin + count) == (
            None if found is None else (found[0] + count, found[1])
        ):
            count += 1
        run = metadata.run(0, begin, limit)
        place = None if run.data is None else (run.data, run.is_shared)
        assert (place, run.count) == (found, count)
    await stack.end()

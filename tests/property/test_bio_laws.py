"""Laws of bios, splitting and encrypting, for all of them."""

from hypothesis import given
from hypothesis import strategies as st

from fusedm.block import Bio, Op
from fusedm.block.crypt_ctx import CryptContext, check_dun_range, dun_limit
from fusedm.block.units import format_size, parse_size
from fusedm.crypto.ciphers import make_cipher
from fusedm.dm import parse_table
from fusedm.dm.mapping import split_bio
from tests.helpers import reference_xts
from tests.helpers.builders import make_key, pattern
from tests.helpers.devices import RecordingDevice, lookup_in

KEYS = {unit: make_key(f"u{unit}", unit, 16) for unit in (512, 1024, 4096)}
LOOKUP = lookup_in(RecordingDevice("d0", 1 << 20), RecordingDevice("d1", 1 << 20))
BUFFER = memoryview(bytes(pattern(64 * 512)))


@st.composite
def bios(draw, most=64):
    """A READ or WRITE of whole data units, with or without a context, anywhere."""
    unit = draw(st.sampled_from([None, *KEYS]))
    step = (unit or 512) // 512
    count = draw(st.integers(1, most // step)) * step
    dun = draw(st.integers(0, (1 << 64) + 5) | st.just((1 << 64) - 1))
    crypt = CryptContext(KEYS[unit], dun) if unit else None
    op = draw(st.sampled_from([Op.READ, Op.WRITE]))
    return Bio(op, draw(st.integers(0, 200)), count, BUFFER[: count * 512], crypt)


def step_of(bio):
    return bio.crypt.key.config.data_unit_size // 512 if bio.crypt else 1


def joined(parts):
    """The bio that the parts are in order; asserts that each follows the one before."""
    for left, right in zip(parts, parts[1:], strict=False):
        assert left.is_followed_by(right), f"{right} does not follow {left}"
    first, data = parts[0], b"".join(bytes(part.data) for part in parts)
    count = sum(part.sector_count for part in parts)
    return Bio(first.op, first.sector, count, memoryview(data), first.crypt)


@given(bios(), st.data())
def test_split_then_join_is_the_bio_and_the_halves_follow(bio, data):
    step = step_of(bio)
    if bio.sector_count == step:
        return
    count = data.draw(st.integers(1, bio.sector_count // step - 1)) * step
    front, back = bio.split(count)
    assert (front.sector_count, back.sector_count) == (count, bio.sector_count - count)
    assert joined([front, back]) == bio
    assert not back.is_followed_by(front)


@given(bios(), st.integers(0, 1000))
def test_remapping_keeps_everything_but_the_sector(bio, sector):
    assert bio.remap(sector).remap(bio.sector) == bio


@given(st.integers(1, 16), st.integers(-2, 1 << 130), st.integers(1, 64))
def test_a_dun_never_exceeds_its_bytes(dun_bytes, dun, units):
    context = CryptContext(make_key("k", 512, dun_bytes), dun)
    fits = dun >= 0 and dun + units <= dun_limit(context.key.config)
    assert (check_dun_range(context, units * 512) is None) == fits


@st.composite
def tables(draw):
    """A table of linear and striped targets of odd lengths; 600 sectors or more."""
    lines, start = [], 0
    while start < 600:
        if draw(st.booleans()):
            length = draw(st.integers(1, 200))
            line = f"{start} {length} linear d0 {draw(st.integers(0, 99))}"
        else:
            chunk = draw(st.integers(1, 20))
            length = 2 * chunk * draw(st.integers(1, 8))
            line = f"{start} {length} striped 2 {chunk} d0 0 d1 5"
        lines.append(line)
        start += length
    return parse_table("\n".join(lines), LOOKUP, lambda: 0.0)


@given(tables(), bios())
def test_pieces_join_to_the_bio_and_keep_the_boundaries(table, bio):
    pieces = list(split_bio(table, bio))
    assert joined([piece.bio for piece in pieces]) == bio
    for piece in pieces:
        part, entry = piece.bio, piece.entry
        assert part.sector_count % step_of(bio) == 0
        assert entry.start_sector <= part.sector < entry.end_sector
        chunk = entry.target.max_io_sectors or entry.sector_count
        first, last = (sector - entry.start_sector for sector in (part.sector, part.end_sector - 1))
        crosses = part.end_sector > entry.end_sector or first // chunk != last // chunk
        assert crosses == piece.straddles


@given(tables(), bios())
def test_only_units_on_a_boundary_straddle(table, bio):
    step = step_of(bio)
    for piece in split_bio(table, bio):
        if piece.straddles:
            for sector in range(piece.bio.sector, piece.bio.end_sector, step):
                unit = Bio(Op.READ, sector, step, BUFFER[: step * 512])
                assert len(list(split_bio(table, unit))) > 1, f"{unit} need not straddle"


@given(bios(most=16))
def test_encrypting_equals_the_reference_and_decrypting_undoes_it(bio):
    if bio.crypt is None:
        return
    key, dun = bio.crypt.key, bio.crypt.dun
    cipher, data = make_cipher(key), memoryview(bytearray(len(bio.data)))
    cipher.encrypt(dun, bio.data, data)
    unit = key.config.data_unit_size
    assert data == reference_xts.encrypt(bytes(key.raw), unit, dun, bytes(bio.data))
    cipher.decrypt(dun, data, data)
    assert data == bio.data


@given(st.integers(0, 1 << 60))
def test_size_words_round_trip(size):
    assert parse_size(format_size(size)) == size

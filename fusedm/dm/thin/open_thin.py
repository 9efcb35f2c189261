"""A device of a pool, as the thin targets that open it see it. Pure."""

from fusedm.block import Generation, RangeLocks


class OpenThin:
    """What all targets of one thin device share: a table, and the one that is to replace it.

    number: its id in the pool. locks: of its blocks; held while one is given a place, or loses it.
    has_changes: something was mapped or unmapped since the last commit; has_lost: such changes were
    given up, and nobody has been told yet whose writes they were of.
    Lives: while a target has it open.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.locks = RangeLocks()
        self.users = 0
        self.has_changes = False
        self.has_lost = False
        #: Of blocks that had no place: some have one now.
        self.gained = Generation()
        #: Of blocks that had one: it is another now, shared, or none.
        self.lost = Generation()
        #: Whether there are changes.
        self.settling = Generation()

    def note_change(self) -> None:
        """Its mappings have changed, in a transaction that is yet to be committed."""
        self.has_lost = False
        self._set_changes(True)

    def note_commit(self) -> None:
        """They are on the metadata device."""
        self._set_changes(False)

    def note_abort(self) -> None:
        """They are as they were at the last commit.

        Source: aborted_with_changes in the kernel's dm-thin-metadata.c.
        """
        self.has_lost = self.has_lost or self.has_changes
        self._set_changes(False)
        self.forget_spans()

    def forget_spans(self) -> None:
        """Nothing that was said of its bios holds any more."""
        for generation in (self.gained, self.lost, self.settling):
            generation.advance()

    def _set_changes(self, has_changes: bool) -> None:
        if self.has_changes != has_changes:
            self.has_changes = has_changes
            self.settling.advance()

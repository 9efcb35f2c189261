"""Thin pools: the metadata that say which block of which thin device lies where, as dm-thin's."""

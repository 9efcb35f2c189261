"""Backing stores: bytes at offsets, in memory, on the host or behind a server, honest or faulty."""

from typing import TYPE_CHECKING

from fusedm import door

if TYPE_CHECKING:
    from fusedm.stores.base import Store
    from fusedm.stores.faulty import (
        CorruptRead,
        FailOp,
        FaultRule,
        Faults,
        FaultyStore,
        Latency,
        LostWrite,
        MisdirectedWrite,
        TornWrite,
    )
    from fusedm.stores.file import FileStore
    from fusedm.stores.memory import MemoryStore
    from fusedm.stores.nbd.store import open_nbd
    from fusedm.stores.opening import (
        open_store,
        prefixed_store,
        remove_created,
        store_path,
        store_size,
    )
    from fusedm.stores.rbd.store import open_rbd
    from fusedm.stores.volatile_cache import VolatileCacheStore
    from fusedm.stores.waiting import LinedStore, Lines, MakeLines, WaitingKind, WaitingStore

__all__ = [
    "CorruptRead",
    "FailOp",
    "FaultRule",
    "Faults",
    "FaultyStore",
    "FileStore",
    "Latency",
    "LinedStore",
    "Lines",
    "LostWrite",
    "MakeLines",
    "MemoryStore",
    "MisdirectedWrite",
    "Store",
    "TornWrite",
    "VolatileCacheStore",
    "WaitingKind",
    "WaitingStore",
    "prefixed_store",
    "open_nbd",
    "open_rbd",
    "open_store",
    "remove_created",
    "store_path",
    "store_size",
]

__getattr__ = door(
    __name__,
    {
        "base": "Store",
        "faulty": (
            "CorruptRead FailOp FaultRule Faults FaultyStore "
            "Latency LostWrite MisdirectedWrite TornWrite"
        ),
        "file": "FileStore",
        "memory": "MemoryStore",
        "nbd.store": "open_nbd",
        "opening": "prefixed_store open_store remove_created store_path store_size",
        "rbd.store": "open_rbd",
        "volatile_cache": "VolatileCacheStore",
        "waiting": "LinedStore Lines MakeLines WaitingKind WaitingStore",
    },
)

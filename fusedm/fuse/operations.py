"""The handlers pyfuse3 calls: translate, call, translate errors. They decide nothing.

pyfuse3 ends the mount at any exception that is not a FUSEError, so every handler is wrapped.
"""

import errno
import functools
import logging
import os
import stat
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Concatenate, ParamSpec, TypeVar

from fusedm.block.errors import FusedmError
from fusedm.block.units import SECTOR_SIZE
from fusedm.files import Handles, OpenDevice, allocated_bytes, empty, flush, read, write
from fusedm.fuse.libfuse import pyfuse3
from fusedm.fuse.nodes import DeviceFile, Directory, Link, Node, TextFile
from fusedm.fuse.tree import MAPPER, Inodes, Path, Tree
from fusedm.system import System

log = logging.getLogger(__name__)

#: Loop takes its discard granularity from this.
BLOCK_SIZE = 4096
#: What sysfs reports for a file whose text is made when it is read.
TEXT_FILE_SIZE = 4096

P = ParamSpec("P")
R = TypeVar("R")


def handler(
    function: Callable[Concatenate["Operations", P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate["Operations", P], Coroutine[Any, Any, R]]:
    """Turn what a handler raises into what pyfuse3 allows; a bug is logged and seen as EIO."""

    async def wrapped(self: "Operations", /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await function(self, *args, **kwargs)
        except pyfuse3.FUSEError:
            raise
        except FusedmError as error:
            raise pyfuse3.FUSEError(error.errno) from None
        except Exception:
            log.exception("bug in %s", function.__name__)
            raise pyfuse3.FUSEError(errno.EIO) from None

    functools.update_wrapper(wrapped, function)
    return wrapped


def refuse(number: int) -> Any:
    """A handler for what a tree of devices does not do."""

    async def refused(*_: object) -> None:
        raise pyfuse3.FUSEError(number)

    return refused


@dataclass(slots=True)
class Listing:
    """An open directory and the names it had when it was last read from the beginning.

    What comes or goes meanwhile must not move the others, or some would be skipped or told twice.
    """

    path: Path
    names: list[str] = field(default_factory=list)


class Operations(pyfuse3.Operations):
    """One mounted system.

    Owns: inode numbers and open handles.
    """

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(self, system: System) -> None:
        super().__init__()
        self._system = system
        self._tree = Tree(system)
        self._inodes = Inodes()
        self.handles: Handles = {}
        self._listings: dict[int, Listing] = {}
        self._next_handle = count(1)
        self._uid, self._gid = os.geteuid(), os.getegid()

    # Names.

    @handler
    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """A name in a directory."""
        path = (*self._inodes.path(parent_inode), os.fsdecode(name))
        node = self._node(path)
        return self._attributes(self._inodes.look_up(path), node)

    @handler
    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """The kernel no longer remembers these."""
        for inode, times in inode_list:
            self._inodes.forget(inode, times)

    @handler
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        """Size, mode and times."""
        return self._attributes(inode, self._node(self._inodes.path(inode)))

    @handler
    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """Times may be set, to no effect; a size only to what it is; owner and mode may not."""
        now = self._attributes(inode, self._node(self._inodes.path(inode)))
        if fields.update_mode or fields.update_uid or fields.update_gid:
            raise pyfuse3.FUSEError(errno.EPERM)
        if fields.update_size and attr.st_size != now.st_size:
            raise pyfuse3.FUSEError(errno.EINVAL)
        return now

    @handler
    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        """Where a link leads."""
        node = self._node(self._inodes.path(inode))
        if not isinstance(node, Link):
            raise pyfuse3.FUSEError(errno.EINVAL)
        return os.fsencode(node.target)

    @handler
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        """A directory is listed by its path."""
        handle = next(self._next_handle)
        self._listings[handle] = Listing(self._inodes.path(inode))
        return handle

    @handler
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        """Names in order of age, from the start_id-th on, as they were when it was 0."""
        listing = self._listings[fh]
        if start_id == 0:
            listing.names = list(self._tree.names(listing.path))
        for index, name in enumerate(listing.names[start_id:], start_id + 1):
            child = (*listing.path, name)
            node = self._tree.node(child)
            if node is None:
                continue
            # The kernel remembers the name only if the reply had room for it.
            inode = self._inodes.look_up(child)
            attributes = self._attributes(inode, node)
            if not pyfuse3.readdir_reply(token, os.fsencode(name), attributes, index):
                self._inodes.forget(inode, 1)
                break

    @handler
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        """Only the block size means anything."""
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = BLOCK_SIZE
        data.f_namemax = 127
        return data

    # Files.

    @handler
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        """A device file is in use until it is released; a text is made now.

        The lane has emptied what is truncated, and shows no O_TRUNC.
        """
        if flags & os.O_TRUNC:
            await self.empty(inode)
        node = self._node(self._inodes.path(inode))
        writes = flags & os.O_ACCMODE != os.O_RDONLY
        opened: OpenDevice | memoryview
        if isinstance(node, DeviceFile):
            if writes and self._system.view(node.name).read_only:
                raise pyfuse3.FUSEError(errno.EROFS)
            opened = OpenDevice(self._system.open(node.name), bool(flags & os.O_DSYNC))
        elif isinstance(node, TextFile):
            if writes:
                raise pyfuse3.FUSEError(errno.EACCES)
            opened = memoryview(node.text().encode())
        else:
            raise pyfuse3.FUSEError(errno.EISDIR)
        handle = next(self._next_handle)
        self.handles[handle] = opened
        return pyfuse3.FileInfo(fh=handle, direct_io=True)

    async def empty(self, inode: int) -> None:
        """Give up what a device file holds, as O_TRUNC asks for.

        Raises: as emptying.empty.
        """
        node = self._tree.node(self._inodes.path(inode))
        if isinstance(node, DeviceFile):
            await empty(self._system, self._system.view(node.name))

    def takes_discards(self, inode: int) -> bool:
        """Whether space can be given up in a file; all others have nothing against it."""
        node = self._tree.node(self._inodes.path(inode))
        return not isinstance(node, DeviceFile) or self._system.view(node.name).takes_discards

    @handler
    async def read(  # type: ignore[override]  # any buffer will do, whatever the stub says
        self, fh: int, off: int, size: int
    ) -> memoryview:
        """Bytes; fewer at the end."""
        opened = self.handles[fh]
        if isinstance(opened, OpenDevice):
            return await read(opened.view, off, size)
        return opened[off : off + size]

    @handler
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        """All of the bytes, or an error."""
        opened = self.handles[fh]
        assert isinstance(opened, OpenDevice), "text files are not opened for writing"
        await write(opened.view, off, memoryview(buf), opened.durable_writes)
        self._system.names.note_write(opened.view.name)
        return len(buf)

    @handler
    async def fsync(self, fh: int, datasync: bool) -> None:
        """Make durable what was acknowledged."""
        opened = self.handles[fh]
        if isinstance(opened, OpenDevice):
            await flush(opened.view)

    @handler
    async def release(self, fh: int) -> None:
        """The last descriptor was closed."""
        opened = self.handles.pop(fh)
        if isinstance(opened, OpenDevice):
            self._system.closed(opened.view.name)

    @handler
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        """There is nothing to make durable."""

    @handler
    async def releasedir(self, fh: int) -> None:
        """The last descriptor was closed."""
        del self._listings[fh]

    # A descriptor was closed: nothing is to be done, as on a block device. The kernel does not ask
    # again, so closing a file never waits, and cannot fail when the mount ends.
    flush = refuse(errno.ENOSYS)

    @handler
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        """Give a mapped device another name, if a verb of ours has the kernel ask for it.

        It asks with the names alone: whoever asks for the same meanwhile gets what is being done.
        """
        old = (*self._inodes.path(parent_inode_old), os.fsdecode(name_old))
        new = (*self._inodes.path(parent_inode_new), os.fsdecode(name_new))
        is_ours = self._system.names.is_renaming(old[-1], new[-1])
        if not is_ours or old[:-1] != new[:-1] or old[:-1] != (MAPPER,):
            raise pyfuse3.FUSEError(errno.EPERM)
        self._system.rename_mapped(old[-1], new[-1])
        self._inodes.rename(old, new)

    # Other names come and go by fusedm's verbs only.
    create = mkdir = mknod = symlink = link = unlink = rmdir = refuse(errno.EPERM)

    def _node(self, path: Path) -> Node:
        node = self._tree.node(path)
        if node is None:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return node

    def _attributes(self, inode: int, node: Node) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode
        # A size or a name may change at any time, and loop must see a new size at once.
        entry.entry_timeout = entry.attr_timeout = 0
        entry.st_uid, entry.st_gid, entry.st_nlink = self._uid, self._gid, 1
        entry.st_blksize = BLOCK_SIZE
        match node:
            case DeviceFile(name):
                view = self._system.view(name)
                entry.st_mode = stat.S_IFREG | (0o400 if view.read_only else 0o600)
                entry.st_size = view.size
                entry.st_blocks = -(-allocated_bytes(view) // SECTOR_SIZE)
                entry.st_ctime_ns = int(self._system.names.created[name] * 1e9)
                entry.st_mtime_ns = int(self._system.names.written[name] * 1e9)
                entry.st_atime_ns = entry.st_mtime_ns
            case TextFile():
                entry.st_mode = stat.S_IFREG | 0o444
                entry.st_size = TEXT_FILE_SIZE
            case Link(target):
                entry.st_mode = stat.S_IFLNK | 0o777
                entry.st_size = len(os.fsencode(target))
            case Directory():
                entry.st_mode = stat.S_IFDIR | 0o755
                entry.st_nlink = 2
        return entry

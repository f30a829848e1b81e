"""Which file systems a journal can live on: SQLite's write-ahead log needs locks and memory that a network does not share."""

from __future__ import annotations

import os
from pathlib import Path

from zelo.errors import WorkspaceError

OVERRIDE = "ZELO_ALLOW_NETWORK_JOURNAL"
_NETWORK = {
    "afs", "beegfs", "ceph", "cifs", "davfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "smb2", "smb3",
    "smbfs",
}  # fmt: skip
_IN_USER_SPACE = {
    "fuse.blobfuse", "fuse.blobfuse2", "fuse.ceph-fuse", "fuse.gcsfuse", "fuse.glusterfs", "fuse.goofys", "fuse.juicefs", "fuse.rclone",
    "fuse.s3fs", "fuse.sshfs", "fuse.davfs2", "fuse.geesefs", "fuse.mount-s3",
}  # fmt: skip
"""9p and virtiofs are not here: virtual machines and sandboxes show a local disk so."""


def refuse_network(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> bool:
    """Refuse a folder on a network file system.

    Only Linux says where a folder lies; elsewhere nothing is refused.

    Args:
        folder: where the journal is to be.
        mounts: the kernel's list of mounts.

    Returns:
        Whether the folder is on one and the user insists: the journal must then be held by one process alone.

    Raises:
        WorkspaceError: it is on one.
    """
    kind = file_system(folder, mounts)
    if kind not in _NETWORK | _IN_USER_SPACE:
        return False
    if os.environ.get(OVERRIDE) == "1":
        return True
    what = f"the journal cannot be on a network file system ({kind}): its locks are not safe there, and paid answers could be lost"
    raise WorkspaceError(what, where=str(folder), remedy=f"put the workspace on a local disk, or set {OVERRIDE}=1 at your own risk")


def file_system(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """Return the type of the file system that a folder is on, "" if it is not known."""
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return ""
    place = os.path.realpath(folder)
    best, kind = -1, ""
    for line in lines:
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if len(fields) < 5 or not right:
            continue
        point = fields[4].encode("utf-8", "surrogateescape").decode("unicode_escape")  # a space is written \\040
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best:  # the last of several on one place hides the others
            best, kind = len(point), right.split(" ")[0]
    return kind

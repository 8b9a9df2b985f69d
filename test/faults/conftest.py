"""durable: a daemon with a store, on a disk that stalls, fills up and fails as a test wants (disk.py)."""

from disk import disk_library, durable  # noqa: F401  (fixtures)

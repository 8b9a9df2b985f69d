"""durable: a daemon with a store, on a disk that stalls, fills up and fails as a test wants (disk.py)."""

from bramble import SANITIZED
from disk import disk_library, durable  # noqa: F401  (fixtures)

# They look at other brokers: a daemon with sanitizers adds nothing to that.
collect_ignore = ["test_bad_brokers.py", "test_checker.py"] if SANITIZED else []

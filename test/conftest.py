"""The harness is in lib/: bramble.py runs the daemon, rawmqtt.py and streams.py talk to it, attack.py looks at it
while it is attacked, bramble_fixtures.py is for pytest."""

import pytest

pytest.register_assert_rewrite("attack", "bramble", "rawmqtt", "streams")
pytest_plugins = ["bramble_fixtures"]

"""The harness is in lib/: bramble.py runs the daemon, rawmqtt.py and streams.py talk to it, bramble_fixtures.py is for pytest."""

import pytest

pytest.register_assert_rewrite("bramble", "rawmqtt", "streams")
pytest_plugins = ["bramble_fixtures"]

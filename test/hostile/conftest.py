"""What the tests of hostile input share. Bystanders and Memory are in lib/attack.py.

attacked  attacked("configuration", ...) runs a daemon as start() does, with sanitizers set so that its memory can be
          looked at
"""

import pytest

from attack import environment


@pytest.fixture
def attacked(start):
    def factory(config="", **options):
        return start(config, env={**environment(), **options.pop("env", {})}, **options)

    return factory

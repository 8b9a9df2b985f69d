"""Packets that no honest client sends: each closes its own connection, says why in the log, and disturbs nobody else."""

from rawmqtt import *


def test_noise_instead_of_connect(start):
    broker = start()
    client = broker.client()
    client.send(b"\xff" * 100)
    client.expect_closed()
    broker.wait_log(r"protocol error in \S+: the first packet must be CONNECT")

"""The checker by itself: short logs by hand, of each kind one that is wrong and one, as near to it as can be, that is not.

What it says names the client, the topic, the payload and the lines that show it."""

import subprocess
import sys
from pathlib import Path

import pytest

from checker import Checker, matches

CHECKER = Path(__file__).with_name("checker.py")

SUBSCRIBED = """
s1 > CONNECT kept
s1 < CONNACK new
s1 > SUBSCRIBE m1 p/# q2
s1 < SUBACK m1 q2
"""
PUBLISHER = """
p1 > CONNECT kept
p1 < CONNACK new
"""
BOTH = SUBSCRIBED + PUBLISHER
RESUMED = """
broker - killed
s1 - lost
p1 - lost
s1 > CONNECT kept
s1 < CONNACK resumed
p1 > CONNECT kept
p1 < CONNACK resumed
"""
PUBLISHED = """
p1 > PUBLISH q1 m1 p/a p1.1
p1 < PUBACK m1
p1 > PUBLISH q1 m2 p/a p1.2
p1 < PUBACK m2
"""
EXACTLY = """
p1 > PUBLISH q2 m1 p/a p1.1
p1 < PUBREC m1
p1 > PUBREL m1
p1 < PUBCOMP m1
"""
RECEIVED = """
s1 < PUBLISH q2 m7 p/a p1.1
s1 > PUBREC m7
"""
LOOK = """
look > CONNECT clean
look < CONNACK new
look > SUBSCRIBE m1 p/# q0
look < SUBACK m1 q0
"""
RETAINED = PUBLISHER + """
p1 > PUBLISH q1 m1 p/a p1.1 retain
p1 < PUBACK m1
p1 > PUBLISH q1 m2 p/a p1.2 retain
p1 < PUBACK m2
"""

GOOD = {
    "all is there": BOTH + PUBLISHED + "s1 < PUBLISH q1 m1 p/a p1.1\ns1 < PUBLISH q1 m2 p/a p1.2\nall - drained",
    "what was not acknowledged may be lost": BOTH + "p1 > PUBLISH q1 m1 p/a p1.1" + RESUMED + "p1 > PUBLISH q1 m1 p/a p1.1 dup\n"
        "p1 < PUBACK m1\ns1 < PUBLISH q1 m1 p/a p1.1\nall - drained",
    "who subscribes later gets nothing": PUBLISHER + PUBLISHED + SUBSCRIBED + "all - drained",
    "who subscribes meanwhile may get nothing": PUBLISHER + "p1 > PUBLISH q1 m1 p/a p1.1" + SUBSCRIBED + "p1 < PUBACK m1\nall - drained",
    "who has unsubscribed may get nothing": BOTH + PUBLISHED + "s1 > UNSUBSCRIBE m2 p/#\ns1 < UNSUBACK m2\nall - drained",
    "what was sent before goes on": BOTH + "p1 > PUBLISH q1 m1 p/a p1.1\ns1 > UNSUBSCRIBE m2 p/#\ns1 < UNSUBACK m2\n"
        "s1 < PUBLISH q1 m1 p/a p1.1",
    "who subscribes once more may get what is sent again": BOTH + "s1 > UNSUBSCRIBE m2 p/#\ns1 < UNSUBACK m2\n"
        "p1 > PUBLISH q1 m1 p/a p1.1\np1 - lost\np1 > CONNECT kept\np1 < CONNACK resumed\ns1 > SUBSCRIBE m3 p/# q1\n"
        "p1 > PUBLISH q1 m1 p/a p1.1 dup\ns1 < PUBLISH q1 m1 p/a p1.1",
    "QoS 0 may be lost": BOTH + "p1 > PUBLISH q0 p/a p1.1\nall - drained",
    "a clean session is owed nothing": BOTH.replace("s1 > CONNECT kept", "s1 > CONNECT clean") + PUBLISHED + "all - drained",
    "QoS 1 comes again": BOTH + PUBLISHED + "s1 < PUBLISH q1 m1 p/a p1.1\ns1 < PUBLISH q1 m2 p/a p1.2" + RESUMED
        + "s1 < PUBLISH q1 m1 p/a p1.1 dup\ns1 < PUBLISH q1 m2 p/a p1.2 dup\nall - drained",
    "QoS 1 has another identifier after a crash": BOTH + PUBLISHED + "s1 < PUBLISH q1 m1 p/a p1.1" + RESUMED
        + "s1 < PUBLISH q1 m5 p/a p1.1 dup\ns1 < PUBLISH q1 m1 p/a p1.2\nall - drained",
    "QoS 2 is sent again before PUBREC": BOTH + EXACTLY + "s1 < PUBLISH q2 m7 p/a p1.1" + RESUMED
        + "s1 < PUBLISH q2 m7 p/a p1.1 dup\ns1 > PUBREC m7\ns1 < PUBREL m7\ns1 > PUBCOMP m7\nall - drained",
    "QoS 2 is sent again when PUBREC was lost": BOTH + EXACTLY + RECEIVED + RESUMED
        + "s1 < PUBLISH q2 m7 p/a p1.1 dup\ns1 > PUBREC m7\ns1 < PUBREL m7\ns1 > PUBCOMP m7\nall - drained",
    "PUBREL comes again when PUBCOMP was lost": BOTH + EXACTLY + RECEIVED + "s1 < PUBREL m7\ns1 > PUBCOMP m7" + RESUMED
        + "s1 < PUBREL m7\ns1 > PUBCOMP m7\nall - drained",
    "published anew after a lost session": BOTH.replace("p1 > CONNECT kept", "p1 > CONNECT clean") + "p1 > PUBLISH q2 m1 p/a p1.1\n"
        "p1 - lost\np1 > CONNECT clean\np1 < CONNACK new\np1 > PUBLISH q2 m2 p/a p1.1\np1 < PUBREC m2\np1 > PUBREL m2\n"
        "p1 < PUBCOMP m2" + RECEIVED + "s1 < PUBREL m7\ns1 < PUBLISH q2 m8 p/a p1.1\nall - drained",
    "an identifier is free after PUBREL": BOTH + EXACTLY + "p1 > PUBLISH q2 m2 p/a p1.2" + RECEIVED
        + "s1 < PUBREL m7\ns1 > PUBCOMP m7\ns1 < PUBLISH q2 m7 p/a p1.2",
    "an identifier is free after PUBACK": BOTH + PUBLISHED + "s1 < PUBLISH q1 m1 p/a p1.1\ns1 > PUBACK m1\ns1 < PUBLISH q1 m1 p/a p1.2",
    "repeats do not disturb the order": BOTH + PUBLISHED + "s1 < PUBLISH q1 m1 p/a p1.1\ns1 < PUBLISH q1 m2 p/a p1.2\n"
        "s1 < PUBLISH q1 m1 p/a p1.1 dup",
    "routed once without and once with this client": PUBLISHER + "p1 > PUBLISH q1 m1 p/a p1.1" + SUBSCRIBED
        + "p1 > PUBLISH q1 m2 p/a p1.2\ns1 < PUBLISH q1 m1 p/a p1.2" + RESUMED + "p1 > PUBLISH q1 m1 p/a p1.1 dup\n"
        "s1 < PUBLISH q1 m2 p/a p1.1",
    "QoS 0 overtakes QoS 1": BOTH + PUBLISHED + "p1 > PUBLISH q0 p/a p1.3\ns1 < PUBLISH q0 p/a p1.3\ns1 < PUBLISH q1 m1 p/a p1.1\n"
        "s1 < PUBLISH q1 m2 p/a p1.2",
    "the last one is retained": RETAINED + LOOK + "look < PUBLISH q0 p/a p1.2 retain\nlook - looked",
    "one sent later is retained": RETAINED + "p1 > PUBLISH q0 p/a p1.3 retain" + LOOK + "look < PUBLISH q0 p/a p1.3 retain\nlook - looked",
    "one sent later is lost": RETAINED + "p1 > PUBLISH q0 p/a p1.3 retain" + LOOK + "look < PUBLISH q0 p/a p1.2 retain\nlook - looked",
    "one that was sent again is retained": PUBLISHER + "p1 > PUBLISH q1 m1 p/a p1.1 retain\np1 > PUBLISH q0 p/a p1.2 retain\n"
        "p1 - lost\np1 > CONNECT kept\np1 < CONNACK resumed\np1 > PUBLISH q1 m1 p/a p1.1 dup retain\np1 < PUBACK m1" + LOOK
        + "look < PUBLISH q0 p/a p1.1 retain\nlook - looked",
    "what was retained is cleared": RETAINED + "p1 > PUBLISH q1 m3 p/a - retain\np1 < PUBACK m3" + LOOK + "look - looked",
    "it may be cleared": RETAINED + "p1 > PUBLISH q0 p/a - retain" + LOOK + "look - looked",
    "it comes while one looks": RETAINED + LOOK + "p1 > PUBLISH q0 p/a p1.3 retain\nlook < PUBLISH q0 p/a p1.3\nlook - looked",
    "the will of who says good-bye": SUBSCRIBED + "p1 > CONNECT kept will q1 p/w w1\np1 < CONNACK new\np1 > DISCONNECT\np1 - lost\n"
        "all - drained",
    "the will of who was not accepted": SUBSCRIBED + "p1 > CONNECT kept will q1 p/w w1\np1 - lost\nall - drained",
    "the will of a clean session": SUBSCRIBED + "p1 > CONNECT clean will q1 p/w w1\np1 < CONNACK new\nbroker - killed\np1 - lost\n"
        "all - drained",
    "a will": SUBSCRIBED + "p1 > CONNECT kept will q1 p/w w1\np1 < CONNACK new\np1 - lost\ns1 < PUBLISH q1 m1 p/w w1\nall - drained",
    "a new session before anything was kept": "s1 > CONNECT kept\ns1 < CONNACK new\ns1 - lost\ns1 > CONNECT kept\ns1 < CONNACK new",
}

# kind, log, client, topic, payload, what its lines must hold
BAD = {
    "lost": ("missing", BOTH + PUBLISHED + "s1 < PUBLISH q1 m1 p/a p1.1\nall - drained", "s1", "p/a", "p1.2",
             ["p1 > PUBLISH q1 m2 p/a p1.2", "p1 < PUBACK m2"]),
    "lost in a crash": ("missing", BOTH + PUBLISHED + "s1 < PUBLISH q1 m1 p/a p1.1" + RESUMED + "all - drained", "s1", "p/a", "p1.2",
                        ["p1 > PUBLISH q1 m2 p/a p1.2", "p1 < PUBACK m2"]),
    "PUBREC is an acknowledgement": ("missing", BOTH + "p1 > PUBLISH q2 m1 p/a p1.1\np1 < PUBREC m1\np1 > PUBREL m1\np1 < PUBCOMP m1\n"
                                     "all - drained", "s1", "p/a", "p1.1", ["p1 > PUBLISH q2 m1 p/a p1.1", "p1 < PUBREC m1"]),
    "a will is lost": ("missing", SUBSCRIBED + "p1 > CONNECT kept will q1 p/w w1\np1 < CONNACK new\nbroker - killed\np1 - lost\n"
                       "all - drained", "s1", "p/w", "w1", ["p1 > CONNECT kept will q1 p/w w1", "p1 - lost"]),
    "retained ones do not count as come": ("missing", BOTH + "p1 > PUBLISH q1 m1 p/a p1.1 retain\np1 < PUBACK m1\n"
                                           "s1 < PUBLISH q1 m1 p/a p1.1 retain\nall - drained", "s1", "p/a", "p1.1", []),
    "twice": ("duplicate", BOTH + EXACTLY + RECEIVED + "s1 < PUBREL m7\ns1 > PUBCOMP m7\ns1 < PUBLISH q2 m8 p/a p1.1", "s1", "p/a", "p1.1",
              ["s1 < PUBLISH q2 m7 p/a p1.1", "s1 < PUBLISH q2 m8 p/a p1.1"]),
    "twice, after a crash": ("duplicate", BOTH + EXACTLY + RECEIVED + "s1 < PUBREL m7\ns1 > PUBCOMP m7" + RESUMED
                             + "s1 < PUBLISH q2 m7 p/a p1.1 dup", "s1", "p/a", "p1.1",
                             ["s1 < PUBLISH q2 m7 p/a p1.1", "s1 < PUBLISH q2 m7 p/a p1.1 dup"]),
    "sent again and routed again": ("duplicate", BOTH + "p1 > PUBLISH q2 m1 p/a p1.1" + RESUMED + "p1 > PUBLISH q2 m1 p/a p1.1 dup\n"
                                    + RECEIVED + "s1 < PUBREL m7\ns1 < PUBLISH q2 m8 p/a p1.1", "s1", "p/a", "p1.1",
                                    ["s1 < PUBLISH q2 m7 p/a p1.1", "s1 < PUBLISH q2 m8 p/a p1.1"]),
    "another order": ("order", BOTH + PUBLISHED + "s1 < PUBLISH q1 m1 p/a p1.2\ns1 < PUBLISH q1 m2 p/a p1.1", "s1", "p/a", "p1.1",
                      ["p1 > PUBLISH q1 m1 p/a p1.1", "s1 < PUBLISH q1 m1 p/a p1.2", "s1 < PUBLISH q1 m2 p/a p1.1"]),
    "an older one is retained": ("retained", RETAINED + LOOK + "look < PUBLISH q0 p/a p1.1 retain\nlook - looked", "look", "p/a", "p1.1",
                                 ["p1 > PUBLISH q1 m2 p/a p1.2 retain", "p1 < PUBACK m2", "look < PUBLISH q0 p/a p1.1 retain"]),
    "nothing is retained": ("retained", RETAINED + LOOK + "look - looked", "look", "p/a", "p1.2", ["p1 < PUBACK m2", "look - looked"]),
    "it was cleared": ("retained", RETAINED + "p1 > PUBLISH q1 m3 p/a - retain\np1 < PUBACK m3" + LOOK
                       + "look < PUBLISH q0 p/a p1.2 retain\nlook - looked", "look", "p/a", "p1.2", ["p1 < PUBACK m3"]),
    "an identifier of QoS 2 is reused": ("id", BOTH + EXACTLY + "p1 > PUBLISH q2 m2 p/a p1.2" + RECEIVED + "s1 < PUBLISH q2 m7 p/a p1.2",
                                         "s1", "p/a", "p1.2", ["s1 < PUBLISH q2 m7 p/a p1.1", "s1 < PUBLISH q2 m7 p/a p1.2"]),
    "it is reused after a crash": ("id", BOTH + EXACTLY + "p1 > PUBLISH q2 m2 p/a p1.2" + RECEIVED + RESUMED
                                   + "s1 < PUBLISH q2 m7 p/a p1.2", "s1", "p/a", "p1.2", ["s1 < PUBLISH q2 m7 p/a p1.1"]),
    "it is reused for QoS 1": ("id", BOTH + EXACTLY + "p1 > PUBLISH q1 m2 p/a p1.2" + RECEIVED + "s1 < PUBLISH q1 m7 p/a p1.2",
                               "s1", "p/a", "p1.2", ["s1 < PUBLISH q2 m7 p/a p1.1"]),
    "an identifier of QoS 1 is reused": ("id", BOTH + PUBLISHED + "s1 < PUBLISH q1 m1 p/a p1.1\ns1 < PUBLISH q1 m1 p/a p1.2",
                                         "s1", "p/a", "p1.2", ["s1 < PUBLISH q1 m1 p/a p1.1"]),
    "PUBREL before PUBREC": ("pubrel", BOTH + EXACTLY + "s1 < PUBLISH q2 m7 p/a p1.1\ns1 < PUBREL m7", "s1", "p/a", "p1.1",
                             ["s1 < PUBLISH q2 m7 p/a p1.1", "s1 < PUBREL m7"]),
    "PUBREL for nothing": ("pubrel", BOTH + "s1 < PUBREL m7", "s1", "-", "-", ["s1 < PUBREL m7"]),
    "without DUP": ("dup", BOTH + EXACTLY + "s1 < PUBLISH q2 m7 p/a p1.1" + RESUMED + "s1 < PUBLISH q2 m7 p/a p1.1", "s1", "p/a", "p1.1",
                    ["s1 < PUBLISH q2 m7 p/a p1.1"]),
    "nobody has sent it": ("unknown", BOTH + PUBLISHED + "s1 < PUBLISH q1 m1 p/a p1.3", "s1", "p/a", "p1.3", ["s1 < PUBLISH q1 m1 p/a p1.3"]),
    "a payload on another topic": ("unknown", BOTH + PUBLISHED + "s1 < PUBLISH q1 m1 p/b p1.1", "s1", "p/b", "p1.1", []),
    "before it was sent": ("unknown", BOTH + "s1 < PUBLISH q1 m1 p/a p1.1\np1 > PUBLISH q1 m1 p/a p1.1", "s1", "p/a", "p1.1", []),
    "nobody has asked for it": ("unasked", BOTH + "p1 > PUBLISH q1 m1 x/a p1.1\ns1 < PUBLISH q1 m1 x/a p1.1", "s1", "x/a", "p1.1",
                                ["p1 > PUBLISH q1 m1 x/a p1.1", "s1 < PUBLISH q1 m1 x/a p1.1"]),
    "nobody asks for it any more": ("unasked", BOTH + "s1 > UNSUBSCRIBE m2 p/#\ns1 < UNSUBACK m2" + RESUMED
                                    + "p1 > PUBLISH q1 m1 p/a p1.1\ns1 < PUBLISH q1 m1 p/a p1.1", "s1", "p/a", "p1.1",
                                    ["s1 < UNSUBACK m2", "s1 < PUBLISH q1 m1 p/a p1.1"]),
    "a session is gone": ("session", SUBSCRIBED + "s1 - lost\ns1 > CONNECT kept\ns1 < CONNACK new", "s1", "-", "-",
                          ["s1 < SUBACK m1 q2", "s1 < CONNACK new"]),
    "a session with PUBREC is gone": ("session", BOTH + "p1 > PUBLISH q2 m1 p/a p1.1\np1 < PUBREC m1\np1 - lost\np1 > CONNECT kept\n"
                                      "p1 < CONNACK new", "p1", "-", "-", ["p1 < PUBREC m1", "p1 < CONNACK new"]),
    "a session for a clean client": ("session", "s1 > CONNECT clean\ns1 < CONNACK resumed", "s1", "-", "-", []),
    "PUBACK for nothing": ("answer", BOTH + "p1 < PUBACK m1", "p1", "-", "-", ["p1 < PUBACK m1"]),
    "two PUBACKs": ("answer", BOTH + "p1 > PUBLISH q1 m1 p/a p1.1\np1 < PUBACK m1\np1 < PUBACK m1", "p1", "p/a", "p1.1",
                    ["p1 > PUBLISH q1 m1 p/a p1.1", "p1 < PUBACK m1"]),
    "PUBCOMP before PUBREL": ("answer", BOTH + "p1 > PUBLISH q2 m1 p/a p1.1\np1 < PUBREC m1\np1 < PUBCOMP m1", "p1", "p/a", "p1.1", []),
    "PUBREC for QoS 1": ("answer", BOTH + "p1 > PUBLISH q1 m1 p/a p1.1\np1 < PUBREC m1", "p1", "p/a", "p1.1", []),
    "no PUBACK": ("unanswered", BOTH + "p1 > PUBLISH q1 m1 p/a p1.1\ns1 < PUBLISH q1 m1 p/a p1.1\nall - drained", "p1", "p/a", "p1.1",
                  ["p1 > PUBLISH q1 m1 p/a p1.1", "all - drained"]),
    "no PUBCOMP": ("unanswered", BOTH + "p1 > PUBLISH q2 m1 p/a p1.1\np1 < PUBREC m1\np1 > PUBREL m1" + RECEIVED + "all - drained",
                   "p1", "p/a", "p1.1", []),
    "not a log": ("log", "s1 > CONNECT", "s1", "-", "-", []),
}


def log(text):
    """Numbers and times are put before the lines."""
    return [f"{number} {number / 1000:.6f} {line}" for number, line in enumerate(filter(None, text.split("\n")), 1)]


@pytest.mark.parametrize("name", GOOD)
def test_good(name):
    checker = Checker().read(log(GOOD[name]))
    assert not checker.problems, checker.report()


@pytest.mark.parametrize("name", BAD)
def test_bad(name):
    kind, text, client, topic, payload, shown = BAD[name]
    checker = Checker().read(log(text))
    assert [p.kind for p in checker.problems] == [kind], checker.report()
    problem = checker.problems[0]
    assert (problem.client, problem.topic, problem.payload) == (client, topic, payload)
    said = str(problem)
    assert all(word in said.split("\n")[0] for word in (client, topic, payload))
    assert len(said.split("\n")) > 1, "a line that shows it"
    for line in shown:
        assert any(each.endswith(" " + line) for each in said.split("\n")[1:]), f"{line} is not shown:\n{said}"


def test_every_kind_has_its_logs():
    text = CHECKER.read_text()
    told = text[text.index("a kind of Problem:"):text.index("The hard part")]
    kinds = {line.split()[0] for line in told.splitlines() if line.startswith("    ")}
    assert kinds == {kind for kind, *_ in BAD.values()}


@pytest.mark.parametrize("pattern,topic,wanted", [
    ("p/#", "p/a", True), ("p/#", "p", True), ("p/#", "pa", False), ("+/a", "p/a", True), ("p/+", "p/a/b", False),
    ("p/a", "p/a/b", False), ("p/a/b", "p/a", False), ("#", "p/a", True)])
def test_filters(pattern, topic, wanted):
    assert matches(pattern, topic) == wanted


def test_is_a_program(tmp_path):
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text("\n".join(log(GOOD["all is there"])) + "\n")
    bad.write_text("\n".join(log(BAD["lost"][1])) + "\n")

    def check(*paths):
        return subprocess.run([sys.executable, CHECKER, *paths], capture_output=True, text=True, check=False)

    assert check(good).returncode == 0 and "problems 0" in check(good).stdout
    assert check(good, bad).returncode == 1 and "missing: client s1, topic p/a, payload p1.2" in check(good, bad).stdout
    assert check().returncode == 1

"""Password files: device tokens, what is refused with file:line wherever a file is read, and who waits for whom."""

import re

import pytest

from bramble import LISTENER, Failed, passwd, run
from rawmqtt import NOT_AUTHORISED

CONFIG = LISTENER["tcp"] + "allow_anonymous false\npassword_file {dir}/passwd\n"


def new_token(path, user):
    done = run("passwd", "--token", path, user)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"brmbl_[A-Za-z0-9_-]{43}\n", done.stdout)
    assert f'"{user}"' in done.stderr and done.stdout.strip() not in done.stderr
    return done.stdout.strip()


def test_device_token(start):
    """Made while the broker runs, used, replaced, and taken away; a user with a password goes on as before."""
    broker = start(CONFIG, files={"passwd": "one:secret"})
    path = broker.dir / "passwd"
    first = new_token(path, "pump")
    assert first[6:] not in path.read_text()
    broker.client().connect("c", user="pump", password=first, expect=NOT_AUTHORISED)  # not read yet
    broker.reload()
    broker.wait_log("Reloaded")
    pump = broker.connect("pump", user="pump", password=first)
    one = broker.connect("one", user="one", password="secret")
    wrong = first[:-2] + ("AA" if first[-2:] != "AA" else "BA")
    for password in (wrong, first[:-1], first + "A", first.lower(), first[6:], "secret", ""):
        broker.client().connect("c", user="pump", password=password, expect=NOT_AUTHORISED)
    broker.client().connect("c", user="pump", expect=NOT_AUTHORISED)
    for user in ("one", "nobody", ""):
        broker.client().connect("c", user=user, password=first, expect=NOT_AUTHORISED)

    second = new_token(path, "pump")
    broker.reload()
    broker.wait_log("Reloaded", 2)
    pump.expect_closed()
    broker.client().connect("pump", user="pump", password=first, expect=NOT_AUTHORISED)
    broker.connect("pump", user="pump", password=second).ping()
    one.ping()


def test_upgrade_knows_tokens(start):
    """Plain text in a file: a token of it becomes a token, all else a password."""
    broker = start(CONFIG, files={"passwd": "one:secret"})
    path = broker.dir / "passwd"
    token = new_token(path, "pump")
    before = path.read_text()
    path.write_text(before + f"valve:{token}\ntwo:secret\n")
    done = run("passwd", "-H", "sha512-pbkdf2", "-I", "100", "-U", path)
    assert done.returncode == 0, done.stderr
    assert path.read_text().startswith(before)
    assert re.search(r"(?m)^valve:\$blake2b\$.*\ntwo:\$7\$", path.read_text())
    broker.reload()
    broker.wait_log("Reloaded")
    broker.connect("a", user="valve", password=token)
    broker.connect("b", user="pump", password=token)
    broker.connect("c", user="two", password="secret")


GOOD = "one:$6$JPbxNInqadiBiWjB$HhPW7MaOaiAjU4cLYXJZV+IPl5oGIfNrxFGwbszb48fuLVO/9r1aLtdy8XGj6oJU61zuRZGrk4Sg58IgF9OV2Q==\n"
TOKEN = "two:$blake2b$AAECAwQFBgcICQoLDA0ODw$e6STenLHNNaFO4vMqOeH2QZVSM5J5IYGqOWXXhLrKsU\n"
BAD = {
    "a user twice": (GOOD, 'user "one" stands already on line 1'),
    "no colon": ("two\n", "no colon"),
    "no name": (GOOD[3:], "no user name"),
    "a name of blanks": (" \t" + GOOD[3:], "no user name"),
    "no hash": ("two:\n", "no hash"),
    "plain text": ("two:secret\n", "plain text"),
    "an unknown kind": ("two:$1$abc$def\n", "unknown kind"),
    "half a token's hash": (TOKEN[:-20] + "\n", "32 bytes"),
    "a token's salt too short": (TOKEN.replace("AAECAwQF", ""), "16 bytes"),
    "half a hash": ("two" + GOOD[3:-20] + "\n", "damaged"),
}


@pytest.mark.parametrize("what", BAD)
def test_refused_with_its_line(start, what):
    """At the start, by --test-config, at a reload (which keeps what was) and by the tool (which changes nothing)."""
    line, reason = BAD[what]
    broker = start(CONFIG, files={"passwd": "zero:x"})
    path = broker.dir / "passwd"
    path.write_text(GOOD + TOKEN.replace("two", "three"))
    broker.reload()
    broker.wait_log("Reloaded")
    text = GOOD + "# a comment\n\n" + line + TOKEN.replace("two", "three")
    path.write_text(text)
    where = rf"{re.escape(str(path))}:4: .*{re.escape(reason)}"

    done = run("-t", "-c", broker.path)
    assert done.returncode == 3 and re.search(where, done.stderr), done.stderr
    broker.reload()
    broker.wait_log("verything stays as it was")
    assert re.search(where, broker.log), broker.log
    broker.connect("c", user="one", password="secret6").ping()
    for args in (("-b", path, "four", "x"), ("-D", path, "three"), ("--token", path, "four")):
        done = run("passwd", *args)
        assert done.returncode == 1 and re.search(where, done.stderr), done.stderr
        assert done.stdout == "" and path.read_text() == text
    broker.stop()
    with pytest.raises(Failed) as failed:
        broker.start()
    broker._notify.close()
    assert failed.value.status == 3 and re.search(where, failed.value.text), failed.value.text

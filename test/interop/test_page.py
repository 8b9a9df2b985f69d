"""The dashboard: in a real Chromium against the daemon (page/page.test.mjs), its parts alone, and how it is built."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import bramble
from bramble import LISTENER

PAGE = Path(__file__).parent / "page"
DASHBOARD = Path(os.environ.get("BRAMBLE_DASHBOARD", bramble.TOP / "build" / "dashboard"))
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"


def passed(done):
    """What these tests print at the end: N passed, N failed."""
    print(done.stdout, done.stderr)
    return done.returncode == 0 and re.search(r"^[1-9]\d* passed, 0 failed$", done.stdout, re.M)


def with_page(start, port, options="", **files):
    return start(f"password_file {{dir}}/passwd\nmax_queued_messages 0\n{options}{LISTENER['tcp']}{LISTENER[port]}http_dir {DASHBOARD}\n",
                 files={"passwd": "page:secret blind:b", **files})


def page_passed(broker, port, **more):
    env = {**os.environ, "PAGE_URL": f"{'https' if port == 'wss' else 'http'}://localhost:{broker.ports[port]}/",
           "PAGE_USER": "page", "PAGE_PASSWORD": "secret", "BROKER_URL": f"mqtt://127.0.0.1:{broker.ports['tcp']}",
           "CHROMIUM": CHROMIUM}
    if port == "wss":
        env["PAGE_CA"] = str(broker.pki.ca)
    return passed(subprocess.run(["node", PAGE / "page.test.mjs"], env={**env, **more}, capture_output=True, text=True, timeout=280,
                                 check=False))


@pytest.mark.parametrize("port", ["ws", "wss"])
def test_page_in_chromium(start, port):
    """Log in, see what another client publishes, publish: over https and over plain http on loopback."""
    assert page_passed(with_page(start, port), port)


def test_access_log_in_chromium(start):
    """The page shows the access log as it is written, to those who may read it."""
    acl = ("user page\ntopic read #\ntopic readwrite page-test/#\ntopic deny page-test/denied/#\n"
           "user blind\ntopic read page-test/#\n")
    broker = with_page(start, "ws", "acl_file {dir}/acl\naccess_log_topic client/accessLog\naccess_log_rate 10000\n", acl=acl)
    assert page_passed(broker, "ws", BLIND_USER="blind", BLIND_PASSWORD="b")


def test_chromium_trusts_the_ca_of_bramble_cert(start, tmp_path):
    """As a user would have it: the CA is imported, and the page opens without a warning. Without it, it does not."""
    broker = with_page(start, "wss")
    opened = {}
    for name in ("trusting", "suspicious"):
        home = tmp_path / name
        database = home / ".pki" / "nssdb"
        database.mkdir(parents=True)
        subprocess.run(["certutil", "-d", f"sql:{database}", "-N", "--empty-password"], check=True)
        if name == "trusting":
            subprocess.run(["certutil", "-d", f"sql:{database}", "-A", "-t", "C,,", "-n", "home", "-i", broker.pki.ca], check=True)
        done = subprocess.run([CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
                               "--disable-background-networking", "--disable-component-update", "--dump-dom",
                               f"--user-data-dir={home}/profile", f"https://localhost:{broker.ports['wss']}/"],
                              env={**os.environ, "HOME": str(home)}, capture_output=True, text=True, timeout=120, check=False)
        opened[name] = 'id="state"' in done.stdout
    assert opened == {"trusting": True, "suspicious": False}


def test_parts_of_the_page():
    assert passed(subprocess.run(["node", PAGE / "model.test.mjs"], cwd=PAGE, capture_output=True, text=True, timeout=120, check=False))


def test_build_of_the_page():
    assert passed(subprocess.run(["sh", PAGE / "build_test.sh"], capture_output=True, text=True, timeout=240, check=False))

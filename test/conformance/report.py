"""report: which statement of the standard was shown, by which test, over what, and which broken brokers were noticed.

The file (--report) has a block for each row of statements.tsv:

    3.1.4-2     same client id connects again: the older connection is closed
                test_3_1_4_2_same_client_id      tcp ok   tls ok   ws ok
                  noticed: the older connection stays open
                           TimeoutError: timed out (the end of the connection was held back)

It is written whatever has failed; what differs and the sums are shown at the end of the run too.
"""

from collections import defaultdict
from pathlib import Path

from bench import STATEMENTS

NOT_APPLICABLE = "not applicable"


class Result:
    def __init__(self, item):
        self.test = item.originalname
        self.run = item.callspec.params["bench"]
        self.rows = list(item.function.statements)
        self.outcome = "not run"
        self.why = ""

    def take(self, report):
        if report.failed:
            self.outcome = "FAILED"
            crash = getattr(report.longrepr, "reprcrash", None)
            self.why = self.why or (crash.message if crash else str(report.longrepr)).splitlines()[0]
        elif report.skipped:
            self.outcome = NOT_APPLICABLE
        elif report.when == "call" and self.outcome == "not run":
            self.outcome = "ok"


class Report:
    def __init__(self, config, foreign):
        self.config = config
        self.foreign = foreign
        self.results = {}

    def pytest_collection_finish(self, session):
        self.results = {item.nodeid: Result(item) for item in session.items
                        if "bench" in getattr(getattr(item, "callspec", None), "params", {})}

    def pytest_runtest_logreport(self, report):
        if report.nodeid in self.results:
            self.results[report.nodeid].take(report)

    # ---- text

    def _tests(self, row):
        """test: its results that count for this row."""
        tests = defaultdict(list)
        for result in self.results.values():
            if row in result.rows and result.run.row in (None, row):
                tests[result.test].append(result)
        return tests

    def _block(self, row):
        yield f"{row:<11} {STATEMENTS[row]}"
        tests = self._tests(row)
        if not tests:
            yield " " * 12 + "no test was run"
        for name, results in tests.items():
            plain = [r for r in results if not r.run.row]
            yield f"{'':12}{name:<52} " + "   ".join(f"{r.run.way} {r.outcome}" for r in plain)
            for result in plain:
                if result.outcome == "FAILED":
                    yield f"{'':14}{result.run.way}: {result.why}"
            for result in results:
                if result.run.row:
                    said = {"ok": "noticed", "FAILED": "NOT NOTICED"}.get(result.outcome, result.outcome)
                    yield f"{'':14}{said}: {result.run.words}"
                    yield f"{'':14}{'':{len(said)}}  {result.why or result.run.noticed or ''}"[:180]

    def _state(self, row):
        """Of a row: ok, FAILED, not run, or why it is not applicable."""
        outcomes = {r.outcome for results in self._tests(row).values() for r in results}
        for state in ("FAILED", "not run"):
            if state in outcomes:
                return state
        return "ok" if "ok" in outcomes else NOT_APPLICABLE if outcomes else "not run"

    def _failures(self):
        for result in self.results.values():
            if result.outcome == "FAILED":
                yield f"{', '.join(result.rows):<11} {result.test}[{result.run}]: {result.why}"

    def _summary(self):
        states = {"ok": [], "FAILED": [], NOT_APPLICABLE: [], "not run": []}
        for row in STATEMENTS:
            states[self._state(row)].append(row)
        runs = defaultdict(lambda: defaultdict(int))
        for result in self.results.values():
            runs["broken" if result.run.row else result.run.way][result.outcome] += 1
        whom = f"{self.foreign[0]}:{self.foreign[1]}" if self.foreign else "bramble"
        yield f"== MQTT 3.1.1, {whom}: of {len(STATEMENTS)} statements {len(states['ok'])} shown" + \
              "".join(f", {len(rows)} {state}" for state, rows in states.items() if rows and state != "ok")
        for way, outcomes in runs.items():
            yield f"  {way + ':':<8}" + ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
        for state, rows in states.items():
            if rows and state != "ok":
                yield f"  {state}: " + " ".join(rows)

    def lines(self):
        yield from self._summary()
        yield from self._failures()
        yield ""
        for row in STATEMENTS:
            yield from self._block(row)

    def pytest_sessionfinish(self):
        path = self.config.getoption("--report")
        if path:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text("\n".join(self.lines()) + "\n")

    def pytest_terminal_summary(self, terminalreporter):
        terminalreporter.section("conformance")
        for line in [*self._summary(), *self._failures()]:
            terminalreporter.write_line(line)
        if self.config.getoption("--report"):
            terminalreporter.write_line(f"  all of it: {self.config.getoption('--report')}")

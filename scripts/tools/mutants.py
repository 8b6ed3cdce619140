"""Break each promise on purpose, in a copy, and show that a narrow test notices for the right reason.

Ends with 1 if a mutant survives, if a test fails without one, or if the text a mutant replaces is no longer there.
Names given as arguments choose among the mutants.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree, ignore_patterns

TOP = Path(__file__).resolve().parents[2]
COPIED = ("addon", "cloud", "custom_components", "testbed", "tests")
GATEWAY = "addon/process_cosmos_gateway"
INTEGRATION = "custom_components/process_cosmos"
POWER_CUTS = ("tests/gateway/powercut/test_outbox.py", "-m", "not long")
BOTH_SIDES = ("tests/home_assistant/alerts/test_both_sides.py", "-k", "after_closing_is_refused")
LIMIT = 300
"""Seconds one run of tests may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One broken promise: ``old`` in ``file`` becomes ``new``; ``test`` must fail, saying ``because`` (a pattern)."""

    file: str
    old: str
    new: str
    test: Sequence[str]
    because: str


MUTANTS: Mapping[str, Mutant] = {
    "fsync removed": Mutant(
        file=f"{GATEWAY}/store/schema.py",
        old="""    connection.execute("PRAGMA synchronous = FULL")
    if read_only:
""",
        new="""    connection.execute("PRAGMA synchronous = OFF")
    if read_only:
""",
        test=POWER_CUTS,
        because="steps left",
    ),
    "an urgent event acknowledged before the commit": Mutant(
        file=f"{GATEWAY}/outbox/outbox.py",
        old="""        return await self._store.write(partial(self._enqueue_events, events=events))
""",
        new="""        loop = asyncio.get_running_loop()
        early = loop.create_future()

        def change(transaction):
            results = self._enqueue_events(transaction, events)
            loop.call_soon_threadsafe(early.set_result, results)
            return results

        writing = asyncio.ensure_future(self._store.write(change))
        urgent = [each for each in events if each.event.priority is Priority.URGENT]
        return await (early if urgent else writing)
""",
        test=POWER_CUTS,
        because="steps left",
    ),
    "deleted before the confirmation": Mutant(
        file=f"{GATEWAY}/destinations/parallel_sender.py",
        old="""        sent = await self._state.destination.send([delivery], proven=self._state.proven, token=None)
""",
        new="""        await self._state.outbox.settle(self._state.name, [(delivery, Delivered())])
        sent = await self._state.destination.send([delivery], proven=self._state.proven, token=None)
""",
        test=("tests/gateway/destinations/test_webhook.py", "-k", "accepted_in_an_outage_are_delivered"),
        because=r"site\.waiting",
    ),
    "deleted when the first of two destinations has confirmed": Mutant(
        file=f"{GATEWAY}/outbox/statements.py",
        old="WHERE sequence IN (SELECT value FROM json_each(?)) AND <settled> RETURNING sequence",
        new="WHERE sequence IN (SELECT value FROM json_each(?)) RETURNING sequence",
        test=POWER_CUTS,
        because="still there|steps left|counter",
    ),
    "dedupe index dropped": Mutant(
        file=f"{GATEWAY}/store/schema.sql",
        old="outbox_id (id TEXT PRIMARY KEY, hash BLOB NOT NULL, generation INTEGER NOT NULL) STRICT, WITHOUT ROWID;",
        new="outbox_id (id TEXT, hash BLOB NOT NULL, generation INTEGER NOT NULL) STRICT;",
        test=POWER_CUTS,
        because="Added|steps left",
    ),
    "order by insertion of retries": Mutant(
        file=f"{GATEWAY}/outbox/dequeue.py",
        old="key=itemgetter(0))}",
        new="key=itemgetter(0), reverse=True)}",
        test=("tests/gateway/outbox/test_failures.py", "-k", "holds_back_its_key"),
        because="At index 0 diff: 'b2' != 'b1'",
    ),
    "an acknowledgement of an older connection sent": Mutant(
        file=f"{GATEWAY}/devices/mqtt/connection.py",
        old="""        if self.alive:
            self._client.ack(message.number, message.qos)
        return self.alive
""",
        new="""        import gc

        for other in gc.get_objects():
            if isinstance(other, Connection) and other.alive:
                other._client.ack(message.number, message.qos)
        return True
""",
        test=("tests/gateway/devices/test_late_acknowledgement.py",),
        because="wait_for_payloads",
    ),
    "what is closed can be answered": Mutant(
        file=f"{INTEGRATION}/alerts/decisions.py",
        old="    if not alert.alive or outdated or _is_too_old(request):",
        new="    if outdated or _is_too_old(request):",
        test=BOTH_SIDES,
        because="a closed alert",
    ),
    "an answer to an older revision counts": Mutant(
        file=f"{INTEGRATION}/alerts/decisions.py",
        old="    outdated = request.revision is not None and request.revision < alert.answers_from",
        new="    outdated = False",
        test=BOTH_SIDES,
        because="an answer to an older revision was accepted",
    ),
}


def misfits() -> Sequence[str]:
    """Name the mutants whose text is not there exactly once."""
    found = {name: (TOP / mutant.file).read_text().count(mutant.old) for name, mutant in MUTANTS.items()}
    return [f"{name}: its text is {count} times in {MUTANTS[name].file}" for name, count in found.items() if count != 1]


def run(copy: Path, test: Sequence[str]) -> tuple[int, str]:
    """Run tests in ``copy``, on its own packages; return the exit code and what they said."""
    plugin = "home_assistant_first" if test[0].startswith("tests/home_assistant") else "no:homeassistant"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        plugin,
        "--show-capture=no",
        "--timeout",
        str(LIMIT),
        *test,
    ]
    paths = os.pathsep.join(str(copy / folder) for folder in ("", "addon", "cloud", "testbed"))
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    where = "import process_cosmos_gateway as gateway; print(gateway.__file__)"
    found = subprocess.check_output([sys.executable, "-c", where], cwd=copy, env=environment, text=True)  # noqa: S603
    if not Path(found.strip()).is_relative_to(copy):
        raise RuntimeError(f"the tests would run on {found.strip()}")
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    return done.returncode, done.stdout


def judge(copy: Path, mutant: Mutant) -> str | None:
    """Return why ``mutant`` was not caught, or None."""
    path = copy / mutant.file
    whole = path.read_text()
    path.write_text(whole.replace(mutant.old, mutant.new))
    try:
        code, said = run(copy, mutant.test)
    finally:
        path.write_text(whole)
    if code == 0:
        return "no test noticed"
    return (
        None
        if code == 1 and re.search(mutant.because, said)
        else f"the tests failed for another reason:\n{said[-3000:]}"
    )


def main() -> int:
    """Try the mutants; return the exit code."""
    chosen = {name: MUTANTS[name] for name in sys.argv[1:] or MUTANTS}
    complaints = list(misfits())
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder).resolve()
        for name in COPIED:
            copytree(TOP / name, copy / name, ignore=ignore_patterns("__pycache__", "build"))
        (copy / "pyproject.toml").write_bytes((TOP / "pyproject.toml").read_bytes())
        for test in {mutant.test for mutant in chosen.values()}:
            code, said = run(copy, test)
            complaints += [f"{test[0]} fails without a mutant:\n{said[-3000:]}"] if code else []
        if complaints:
            print(*complaints, sep="\n")
            return 1
        for name, mutant in chosen.items():
            started = time.monotonic()
            survived = judge(copy, mutant)
            print(f"{name} ({time.monotonic() - started:.0f} s): {survived or 'caught'}", flush=True)
            complaints += [name] if survived else []
    print(f"{len(chosen) - len(complaints)} of {len(chosen)} mutants caught")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())

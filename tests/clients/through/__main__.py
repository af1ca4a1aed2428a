"""Real clients through a gateway to real servers. Run by ../matrix."""

import argparse
import fnmatch
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from checks import UNASKED, Check, checks_of
from known import KNOWN
from processes import BOUND, Processes, Unready
from scene import NAMES, Scene

RUN = Path(__file__).resolve().parent.parent / "run"
BOTH = ("session", "stateless")
ERAS = {
    "python-sdk-1": ("session",),
    "python-sdk-2": BOTH,
    "typescript-sdk-1": ("session",),
    "typescript-sdk-2": BOTH,
    "inspector": BOTH,
    "rmcp": BOTH,
}
CELL_SECONDS = 90
# It makes a connection for each command, and takes seconds to start.
FEW = {"inspector": ("all", "everything")}


class Cell(NamedTuple):
    client: str
    era: str
    endpoint: str

    @property
    def name(self) -> str:
        return f"{self.client}-{self.era}-{self.endpoint}"

    def checks(self) -> list[Check]:
        servers = NAMES if self.endpoint == "all" else (self.endpoint,)
        federated = self.endpoint == "all"
        found = []
        for server in servers:
            for check in checks_of(server, federated, self.client, self.era):
                if self.client == "inspector" and check.step["do"] not in ("list", "call"):
                    continue
                found.append(check._replace(name=f"{server}: {check.name}" if federated else check.name))
        # The Inspector is slow to start: one list and one call tell as much as ten.
        return found[:2] if self.client == "inspector" else found


def client(cell: Cell, scene: Scene, log, *command: str) -> tuple[int | None, list[dict]]:
    words = [*BOUND, str(RUN), cell.client, scene.url(cell.endpoint), "--token", scene.keys[cell.name], "--era", cell.era, *command]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=CELL_SECONDS)
        code, output, errors = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired as late:
        code, output, errors = None, (late.stdout or b"").decode(), (late.stderr or b"").decode()
    log.write(output + errors)
    return code, [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def steps(cell: Cell, scene: Scene, checks: list[Check], log) -> dict[str, str | None]:
    """All checks on one connection."""
    unasked = ["--unasked"] if cell.endpoint in UNASKED and cell.client != "rmcp" else []
    code, events = client(cell, scene, log, *unasked, "steps", json.dumps([check.step for check in checks]))
    connected = [event for event in events if event["event"] == "connected"]
    if not connected:
        return {"connect": f"exit {code}: {events}"}
    if connected[0]["era"] != cell.era:
        return {"connect": f"connected as {connected[0]['era']}"}
    found, begun = {"connect": None}, 0
    ends = {event["number"]: at for at, event in enumerate(events) if event["event"] == "step"}
    for number, check in enumerate(checks):
        if number not in ends:
            found[check.name] = f"not done (exit {code})"
            continue
        of_step, end = events[begun : ends[number]], events[ends[number]]
        begun = ends[number] + 1
        errors = [event for event in of_step if event["event"] == "error"]
        found[check.name] = check.judge(of_step) if end["ok"] else f"failed: {errors}"
    return found


def commands(cell: Cell, scene: Scene, checks: list[Check], log) -> dict[str, str | None]:
    """Each check on a connection of its own."""
    found = {}
    for check in checks:
        step = check.step
        command = ["list"] if step["do"] == "list" else ["call", step["tool"], json.dumps(step["arguments"])]
        code, events = client(cell, scene, log, *command)
        found[check.name] = check.judge(events) if code == 0 else f"exit {code}: {events}"
    return found


def known(cell: Cell, check: str) -> int | None:
    for number, (*patterns, _reason) in enumerate(KNOWN):
        if all(fnmatch.fnmatchcase(*pair) for pair in zip((*cell, check), patterns, strict=True)):
            return number
    return None


def cells(arguments) -> list[Cell]:
    return [
        Cell(name, era, endpoint)
        # The longest first.
        for endpoint in ("all", *NAMES)
        for name, eras in ERAS.items()
        for era in eras
        if (not arguments.client or name in arguments.client)
        and (not arguments.endpoint or endpoint in arguments.endpoint)
        and endpoint in FEW.get(name, ("all", *NAMES))
    ]


def run(arguments, folder: Path) -> int:
    chosen = cells(arguments)
    if not chosen:
        raise Unready("no such client or endpoint")
    processes = Processes(folder)
    start = time.monotonic()
    try:
        scene = Scene(processes, [cell.name for cell in chosen])
        print(f"matrix: all up after {time.monotonic() - start:.1f} s", file=sys.stderr)

        def one(cell: Cell):
            checks, begun = cell.checks(), time.monotonic()
            with open(folder / f"{cell.name}.jsonl", "w", encoding="utf-8") as log:
                work = commands if cell.client == "inspector" else steps
                return cell, work(cell, scene, checks, log), time.monotonic() - begun

        with ThreadPoolExecutor(arguments.jobs) as pool:
            return report(pool.map(one, chosen), not (arguments.client or arguments.endpoint), start)
    finally:
        processes.end()


def report(results, complete: bool, start: float) -> int:
    failures, used, count = 0, set(), 0
    for cell, found, seconds in results:
        wrong = {name: problem for name, problem in found.items() if problem}
        excused = {name: known(cell, name) for name in wrong}
        used |= {number for number in excused.values() if number is not None}
        bad = [name for name, number in excused.items() if number is None]
        failures += len(bad)
        count += len(found)
        state = "FAILED" if bad else "ok" if not wrong else f"ok, {len(wrong)} known"
        path = "/mcp" if cell.endpoint == "all" else f"/servers/{cell.endpoint}/mcp"
        print(f"{cell.client:17} {cell.era:9} {path:24} {len(found) - len(wrong):3}/{len(found):<3} {seconds:5.1f} s  {state}", flush=True)
        for name in bad:
            print(f"    {name}: {wrong[name]}", flush=True)
    # A client that was not asked, or never got so far, proves nothing about the list.
    stale = [entry for number, entry in enumerate(KNOWN) if number not in used] if complete and not failures else []
    for entry in stale:
        print(f"no longer so, strike it from known.py: {entry}")
    print(f"matrix: {count} checks, {failures} failed; {time.monotonic() - start:.0f} s", file=sys.stderr)
    return int(failures + len(stale) > 0)


def main() -> int:
    parser = argparse.ArgumentParser(prog="matrix")
    parser.add_argument("--client", action="append")
    parser.add_argument("--endpoint", action="append")
    parser.add_argument("--out", type=Path, default=Path(os.environ["PORTCULLIS_MATRIX_RESULTS"]))
    parser.add_argument("--jobs", type=int, default=3)
    arguments = parser.parse_args()
    shutil.rmtree(arguments.out, ignore_errors=True)
    arguments.out.mkdir(parents=True)
    try:
        return run(arguments, arguments.out.resolve())
    except Unready as problem:
        print(f"matrix: {problem}; logs in {arguments.out}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

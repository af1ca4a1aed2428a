"""Processes that are never left behind, and ports."""

import os
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

# Has the kernel end them where this process cannot: when it is killed outright.
BOUND = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []


class Unready(Exception):
    """Something did not start."""


class Processes:
    """What was started, ended together."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.running: list[subprocess.Popen] = []

    def start(self, name: str, command: list[str], **environment: str) -> subprocess.Popen:
        with open(self.folder / f"{name}.log", "wb") as log, open(os.devnull, "rb") as nothing:
            child = subprocess.Popen(
                [*BOUND, *command], stdin=nothing, stdout=log, stderr=log, env={**os.environ, **environment}
            )
        self.running.append(child)
        return child

    def end(self) -> None:
        for child in self.running:
            child.terminate()
        deadline = time.monotonic() + 3
        for child in self.running:
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def until(what: str, seconds: float, child: subprocess.Popen, condition) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise Unready(f"{what} ended with {child.returncode}")
        if condition():
            return
        time.sleep(0.05)
    raise Unready(f"{what} is not ready after {seconds} s")


def listening(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def fetch(url: str) -> bytes | None:
    """The body of a 200, from this machine whatever the environment says about proxies."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as answer:
            return answer.read()
    except OSError:
        return None

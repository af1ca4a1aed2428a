"""Checks the test clients: all of them, against both test servers, on loopback.

    python3 tests/clients/check [unittest options]

Needs root (the servers run in their images' files), npm, pip and openssl.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

import refusing

HERE = os.path.dirname(os.path.abspath(__file__))
CLIENTS = os.path.dirname(HERE)
SERVE = os.path.join(CLIENTS, "..", "images", "servers", "serve")

ALL = ("python-sdk-1", "python-sdk-2", "typescript-sdk-1", "typescript-sdk-2", "inspector")
SDKS = ALL[:4]
# Who speaks the stateless era.
STATELESS = ("python-sdk-2", "typescript-sdk-2", "inspector")
HELLO = ("echo", '{"message":"hello"}')


def run(client: str, url: str, *arguments: str, timeout: float = 120) -> tuple[int, list[dict]]:
    """Exit code and events of one run."""
    done = subprocess.run(
        [os.path.join(CLIENTS, "run"), client, url, *arguments],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout,
    )
    if done.returncode not in (0, 1, 2, 3):
        raise AssertionError(f"{client}: exit {done.returncode}\n{done.stderr}")
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def only(events: list[dict], name: str) -> dict:
    found = [event for event in events if event["event"] == name]
    if len(found) != 1:
        raise AssertionError(f"{len(found)} events {name} in {events}")
    return found[0]


class Server:
    """A test server on a free port."""

    def __init__(self, name: str, **settings: str):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [SERVE, name, str(self.port), *(f"{key}={value}" for key, value in settings.items())],
            stdout=self.log, stderr=self.log, start_new_session=True,
        )
        self.wait(600)  # the first time it builds the image

    def wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with socket.socket() as connection:
                if connection.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        self.log.seek(0)
        said = self.log.read().decode()
        self.stop()
        raise AssertionError(f"the server did not start:\n{said}")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.log.close()


class Check(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        subprocess.run([os.path.join(CLIENTS, "install")], check=True, stdout=subprocess.DEVNULL)
        cls.everything = Server("mcp-everything")
        cls.addClassCleanup(cls.everything.stop)
        cls.python = Server("mcp-python")
        cls.addClassCleanup(cls.python.stop)

    def refusing(self, **rules) -> str:
        proxy = refusing.start(self.python.port, refusing.Rules(**rules))
        self.addCleanup(proxy.server_close)
        self.addCleanup(proxy.shutdown)
        return f"http://127.0.0.1:{proxy.server_port}/mcp"

    def each(self, clients, *cases):
        """A sub-test, to be entered, for each client with each of the cases."""
        for client in clients:
            for case in cases or (None,):
                named = {"client": client, "case": case} if cases else {"client": client}
                yield client, case, self.subTest(**named)

    def test_every_client_lists_and_calls_in_sessions(self):
        for client, name, test in self.each(ALL, "everything", "python"):
            with test:
                url = getattr(self, name).url
                code, events = run(client, url, "--era", "session", "list")
                self.assertEqual(code, 0, events)
                self.assertIn("echo", only(events, "tools")["tools"])
                code, events = run(client, url, "--era", "session", "call", *HELLO)
                self.assertEqual((code, only(events, "result")["text"]), (0, ["Echo: hello"]))
                if client != "inspector":
                    self.assertEqual(only(events, "connected")["era"], "session")
                    self.assertEqual(only(events, "ended")["status"], 200)

    def test_the_new_clients_speak_the_stateless_era(self):
        for client, _, test in self.each(STATELESS):
            with test:
                for era in ("auto", "stateless"):
                    code, events = run(client, self.python.url, "--era", era, "call", *HELLO)
                    self.assertEqual((code, only(events, "result")["text"]), (0, ["Echo: hello"]))
                    self.assertFalse([event for event in events if event["event"] == "ended"])
                    if client != "inspector":
                        self.assertEqual(only(events, "connected")["era"], "stateless")
                code, _events = run(client, self.everything.url, "--era", "stateless", "call", *HELLO)
                self.assertEqual(code, 1, "a server of the session era cannot answer")

    def test_auto_falls_back_to_a_session(self):
        for client, _, test in self.each(SDKS):
            with test:
                code, events = run(client, self.everything.url, "twice", *HELLO)
                self.assertEqual((code, only(events, "connected")["era"]), (0, "session"))
                self.assertEqual(sum(event["event"] == "result" for event in events), 2)

    def test_the_old_clients_refuse_the_stateless_era(self):
        for client, _, test in self.each(("python-sdk-1", "typescript-sdk-1")):
            with test:
                self.assertEqual(run(client, self.python.url, "--era", "stateless", "list"), (2, []))

    def test_progress_comes_while_the_tool_works(self):
        cases = {"python": ("slow", '{"steps":3,"seconds":3}'), "everything": ("trigger-long-running-operation", '{"steps":3,"duration":3}')}
        for client, name, test in self.each(SDKS, *cases):
            with test:
                code, events = run(client, getattr(self, name).url, "progress", *cases[name])
                self.assertEqual(code, 0, events)
                steps = [event for event in events if event["event"] == "progress"]
                self.assertEqual([step["progress"] for step in steps], [1, 2, 3])
                # Together at the end would mean that somebody holds them back.
                self.assertGreater(steps[2]["ms"] - steps[0]["ms"], 1000, steps)

    def test_a_failing_tool_is_a_result_that_says_so(self):
        for client, _, test in self.each(ALL):
            with test:
                code, events = run(client, self.python.url, "call", "fail")
                self.assertEqual((code, only(events, "result")["isError"]), (1, True))

    def test_headers_and_token_are_sent(self):
        for client, _, test in self.each(ALL):
            with test:
                code, events = run(client, self.python.url, "--token", "abc", "--header", "X-Try: 1", "call", "headers")
                self.assertEqual(code, 0, events)
                sent = only(events, "result")["structured"]
                self.assertEqual((sent["authorization"], sent["x-try"]), ("Bearer abc", "1"))

    def test_a_missing_credential_is_reported_with_its_challenge(self):
        url = self.refusing(token="right")
        for client, _, test in self.each(ALL):
            with test:
                code, events = run(client, url, "--token", "wrong", "list")
                error = only(events, "error")
                self.assertEqual(code, 1, events)
                if client == "inspector":
                    self.assertEqual(error["code"], "auth_required", error)
                else:
                    self.assertEqual((error["kind"], error["status"]), ("http", 401), error)
                    self.assertIn("resource_metadata", error["challenge"])
                self.assertEqual(run(client, url, "--token", "right", "list")[0], 0)

    def test_a_limit_is_waited_for_on_the_same_connection(self):
        for client, era, test in self.each(SDKS, "session", "stateless"):
            with test:
                if era == "stateless" and client not in STATELESS:
                    continue
                url = self.refusing(burst=3, pause=5)
                code, events = run(client, url, "--era", era, "limit", "5", *HELLO)
                summary = only(events, "summary")
                self.assertEqual(code, 0, events)
                self.assertEqual((summary["ok"], summary["refused"], summary["recovered"]), (3, 2, True), events)
                refusal = only(events, "refused")
                self.assertEqual((refusal["kind"], refusal["code"], summary["retryAfter"]), ("rpc", 4290, 5), refusal)
                self.assertEqual(refusal.get("status"), 429 if era == "stateless" else None)
                self.assertEqual(only(events, "connected")["era"], era)

    def test_a_limit_that_does_not_open_again_is_a_failure(self):
        for client, _, test in self.each(SDKS):
            with test:
                url = self.refusing(burst=1, pause=60)
                code, events = run(client, url, "limit", "2", *HELLO, "--patience", "0.5")
                self.assertEqual((code, only(events, "summary")["recovered"]), (1, False), events)

    def test_a_load_counts_what_failed(self):
        for client, _, test in self.each(SDKS):
            with test:
                code, events = run(client, self.python.url, "load", "2", *HELLO, "--clients", "2")
                summary = only(events, "summary")
                self.assertEqual((code, summary["failed"], summary["connections"]), (0, 0, 2), events)
                self.assertGreater(summary["ok"], 2)
                code, events = run(client, self.refusing(burst=2, pause=60), "load", "1", *HELLO, "--pause", "0.05")
                self.assertEqual((code, only(events, "summary")["ok"]), (1, 2), events[-1])
                self.assertGreater(only(events, "summary")["failed"], 0)

    def test_a_load_ends_with_its_input(self):
        for client, _, test in self.each(SDKS):
            with test:
                start = time.monotonic()
                with subprocess.Popen(
                    [os.path.join(CLIENTS, "run"), client, self.python.url, "load", "120", *HELLO],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                ) as load:
                    self.assertEqual(json.loads(load.stdout.readline())["event"], "connected")
                    time.sleep(2)
                    output, _ = load.communicate(timeout=40)
                self.assertEqual(load.returncode, 0)
                self.assertGreater(json.loads(output.splitlines()[-1])["ok"], 0)
                self.assertLess(time.monotonic() - start, 60)

    def test_only_the_given_ca_is_trusted(self):
        with tempfile.TemporaryDirectory() as folder:
            paths = {name: os.path.join(folder, name) for name in ("cert.pem", "key.pem", "other.pem", "other.key")}
            for cert, key in (("cert.pem", "key.pem"), ("other.pem", "other.key")):
                subprocess.run(
                    ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                     "-subj", "/CN=mcp.test", "-addext", "subjectAltName=DNS:mcp.test", "-keyout", paths[key], "-out", paths[cert]],
                    check=True, capture_output=True,
                )
            server = TlsServer(paths["cert.pem"], paths["key.pem"])
            self.addCleanup(server.stop)
            url = f"https://mcp.test:{server.port}/mcp"
            named = ("--resolve", "mcp.test:127.0.0.1")
            for client, _, test in self.each(ALL):
                with test:
                    code, events = run(client, url, *named, "--ca", paths["cert.pem"], "list")
                    self.assertEqual(code, 0, events)
                    for ca in ((), ("--ca", paths["other.pem"])):
                        code, events = run(client, url, *named, *ca, "list")
                        self.assertEqual((code, only(events, "error")["kind"]), (3, "transport"), events)
                    self.assertEqual(run(client, url, *named, "--ca", os.path.join(folder, "absent"), "list")[0], 2)

    def test_nobody_there_is_no_connection(self):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        for client, _, test in self.each(ALL):
            with test:
                code, events = run(client, f"http://127.0.0.1:{port}/mcp", "list")
                self.assertEqual((code, only(events, "error")["kind"]), (3, "transport"), events)

    def test_wrong_use_is_refused(self):
        for client, arguments, test in self.each(ALL, ("list", "more"), ("call",), ("call", "echo", "[]"), ("limit", "0", "echo"), ("fly",), ("--era", "iron", "list")):
            with test:
                self.assertEqual(run(client, self.python.url, *arguments), (2, []))


class TlsServer(Server):
    """The Python server with a certificate: its files must be inside its root, so it runs outside of it."""

    def __init__(self, cert: str, key: str):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.log = tempfile.TemporaryFile()
        packages = subprocess.run([os.path.join(CLIENTS, "install")], check=True, capture_output=True, text=True).stdout.strip()
        server = os.path.join(CLIENTS, "..", "images", "servers", "mcp-python", "server.py")
        self.process = subprocess.Popen(
            [sys.executable, server], stdout=self.log, stderr=self.log, start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.path.join(packages, "python-sdk-2"), "PYTHONDONTWRITEBYTECODE": "1",
                 "MCP_HOST": "127.0.0.1", "MCP_PORT": str(self.port), "MCP_TLS_CERT": cert, "MCP_TLS_KEY": key},
        )
        self.wait(60)


if __name__ == "__main__":
    unittest.main(verbosity=2)

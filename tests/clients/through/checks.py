"""What a client does at each server, and what must come of it.

A check is its name, the step that the client takes, and a judge: given the step's events, it says what is wrong, or None.
"""

from typing import Callable, NamedTuple

LISTS = "notifications/tools/list_changed"
UPDATED = "notifications/resources/updated"
LIMITED = -31429
# Where a client says that nobody can be asked.
UNASKED = ("everything", "events")


class Check(NamedTuple):
    name: str
    step: dict
    judge: Callable[[list[dict]], str | None]


def _of(events: list[dict], kind: str) -> list[dict]:
    return [event for event in events if event["event"] == kind]


def _result(*expected: str, asked: str | None = None, structured: str | None = None):
    """A result with these words in its text; on the way the user was asked."""

    def judge(events):
        if asked and not any(asked in event["message"] for kind in ("asked", "sampled") for event in _of(events, kind)):
            return "nobody was asked"
        results = _of(events, "result")
        if len(results) != 1 or results[0]["isError"]:
            return f"no result: {results}"
        text = " ".join(results[0]["text"])
        return None if all(word in text for word in expected) else f"another result: {text[:200]}"

    return judge


def _progress(events):
    steps = [event["progress"] for event in _of(events, "progress")]
    if steps != [1, 2, 3]:
        return f"progress {steps}"
    return _result()(events)


def _has(kind: str, member: str, *expected: str):
    def judge(events):
        found = [value for event in _of(events, kind) for value in event[member]]
        missing = [value for value in expected if value not in found]
        return f"{missing} is not among {found[:20]}" if missing else None

    return judge


def _tools(present: list[str], absent: list[str]):
    def judge(events):
        found = [name for event in _of(events, "tools") for name in event["tools"]]
        missing = [name for name in present if name not in found]
        if missing:
            return f"{missing} is missing"
        shown = [name for name in absent if name in found]
        return f"{shown} is shown" if shown else None

    return judge


def _logs(events):
    levels = [message["level"] for event in _of(events, "logs") for message in event["messages"]]
    return None if levels == ["warning"] else f"messages of {levels}"


def _news(uri: str | None, *methods: str):
    def judge(events):
        heard = [news for event in _of(events, "news") for news in event["news"]]
        missing = [method for method in methods if method not in {news["method"] for news in heard}]
        if missing:
            return f"{missing} was not heard: {heard}"
        if uri and not all(news["uri"] == uri for news in heard if news["method"] == UPDATED):
            return f"another resource: {heard}"
        return None

    return judge


def _refused_as(refusal: dict, code: int | None) -> bool:
    # rmcp reads no body of a 429: all that it tells is the status.
    if code == LIMITED and refusal["kind"] == "transport" and "status: 429" in refusal["message"]:
        return True
    return refusal["kind"] == "rpc" and code in (None, refusal["code"])


def _beside(refusals: int, code: int | None):
    def judge(events):
        found = _of(events, "beside")
        if len(found) != 1:
            return "the call did not come back"
        [found] = found
        if len(found["refusals"]) != refusals:
            return f"{len(found['refusals'])} refusals: {found['refusals']}"
        if not all(_refused_as(refusal, code) for refusal in found["refusals"]):
            return f"refused otherwise: {found['refusals']}"
        if not found["unfinished"]:
            return "the other call was over before"
        return None if "3 steps" in found["result"]["text"] and not found["result"]["isError"] else f"{found['result']}"

    return judge


def checks_of(server: str, federated: bool, client: str, era: str) -> list[Check]:
    """`federated`: names carry the server's prefix."""
    tool = (lambda name: f"{server}__{name}") if federated else (lambda name: name)
    uri = (lambda text: f"{server}+{text}") if federated else (lambda text: text)

    def call(name, arguments, *expected):
        return Check(f"call {name}", {"do": "call", "tool": tool(name), "arguments": arguments}, _result(*expected))

    full = client not in ("rmcp",)
    slow = {"steps": 3, "seconds": 0.6}
    found = []
    if server == "time":
        found = [
            Check("list", {"do": "list"}, _tools([tool("get_current_time"), tool("convert_time")], [])),
            call("get_current_time", {"timezone": "Europe/Paris"}, "Europe/Paris"),
        ]
    elif server in ("everything", "events"):
        long = "trigger-long-running-operation"
        found = [
            Check("list", {"do": "list"}, _tools([tool("echo"), tool("get-sum")], [])),
            call("echo", {"message": "hello"}, "Echo: hello"),
            Check("progress", {"do": "progress", "tool": tool(long), "arguments": {"duration": 0.6, "steps": 3}}, _progress),
        ]
        if full:
            document = uri("demo://resource/static/document/features.md")
            found += [
                Check("prompts", {"do": "prompts"}, _has("prompts", "prompts", tool("simple-prompt"))),
                Check("resources", {"do": "resources"}, _has("resources", "uris", document)),
                Check(
                    "complete",
                    {"do": "complete", "prompt": tool("completable-prompt"), "argument": "department", "value": "S"},
                    _has("completion", "values", "Sales", "Support"),
                ),
            ]
        # The tool's updates go to the session of its call alone; that of a stateless client that can be asked has a session
        # for itself. On the server's own endpoint the client cannot be asked: see UNASKED.
        if full and (era == "session" or not federated):
            toggle = {"do": "listen", "uri": document, "tool": tool("toggle-subscriber-updates"), "for": [UPDATED]}
            found.append(Check("listen", toggle, _news(document, UPDATED)))
    else:
        found = [
            Check("list", {"do": "list"}, _tools([tool("echo"), tool("slow")], [tool("forbidden")])),
            call("echo", {"message": "hello"}, "Echo: hello"),
            Check("progress", {"do": "progress", "tool": tool("slow"), "arguments": slow}, _progress),
            Check(
                "accept",
                {"do": "answer", "tool": tool("ask"), "content": {"name": "Ann"}},
                _result("Hello Ann", asked="What is your name?"),
            ),
            Check("decline", {"do": "answer", "tool": tool("ask")}, _result("No name: decline", asked="What is your name?")),
        ]
    if server == "legacy" and full:
        found.append(_log(tool))
    if server == "asking":
        found += _refusals(tool, slow)
        found += _asking(tool, uri, era) if full else []
    return found


def _refusals(tool, slow) -> list[Check]:
    beside = {"do": "beside", "tool": tool("slow"), "arguments": slow}
    return [
        Check("beside refused", {**beside, "refused": tool("forbidden")}, _beside(1, None)),
        Check("beside limited", {**beside, "refused": tool("rare"), "times": 4}, _beside(3, LIMITED)),
        Check("afterwards", {"do": "call", "tool": tool("echo"), "arguments": {"message": "still"}}, _result("Echo: still")),
    ]


def _asking(tool, uri, era: str) -> list[Check]:
    listen = {"do": "listen", "tool": tool("change")}
    news = Check("listen", {**listen, "for": [LISTS]}, _news(None, LISTS))
    if era == "stateless":
        counter = uri("count://changes")
        news = Check("listen", {**listen, "uri": counter, "for": [LISTS, UPDATED]}, _news(counter, LISTS, UPDATED))
    checks = [
        Check("sampling", {"do": "answer", "tool": tool("write")}, _result("no a poem", asked="a poem")),
        Check("prompts", {"do": "prompts"}, _has("prompts", "prompts", tool("greet"))),
        Check("prompt", {"do": "prompt", "name": tool("greet"), "arguments": {"name": "Ann"}}, _has("prompt", "text", "Greet Ann in red")),
        Check("resources", {"do": "resources"}, _has("resources", "uris", uri("count://changes"))),
        Check("read", {"do": "read", "uri": uri("colour://red")}, _has("resource", "text", "the colour red")),
        Check(
            "complete",
            {"do": "complete", "prompt": tool("greet"), "argument": "colour", "value": "gr"},
            _has("completion", "values", "green", "grey"),
        ),
        news,
    ]
    # In sessions this server has no `logging/setLevel`, and tells everything.
    return [*checks, _log(tool)] if era == "stateless" else checks


def _log(tool) -> Check:
    return Check("logs", {"do": "logs", "tool": tool("log"), "level": "warning"}, _logs)

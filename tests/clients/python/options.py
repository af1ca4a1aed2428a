"""The command line that every client understands."""

import argparse
import json

ERAS = ("auto", "session", "stateless")


def _json_object(text: str) -> dict:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("arguments are a JSON object")
    return value


def _steps(text: str) -> list[dict]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error
    if not isinstance(value, list) or not all(isinstance(step, dict) and isinstance(step.get("do"), str) for step in value):
        raise argparse.ArgumentTypeError('steps are a JSON array of {"do": NAME, ...}')
    return value


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise argparse.ArgumentTypeError("a header is NAME:VALUE")
    return name.strip(), value.strip()


def _resolve(text: str) -> tuple[str, str]:
    host, colon, address = text.partition(":")
    if not colon or not host or not address:
        raise argparse.ArgumentTypeError("this is HOST:ADDRESS")
    return host.lower(), address


def _positive(kind):
    def parse(text: str):
        value = kind(text)
        if value <= 0:
            raise argparse.ArgumentTypeError("must be above zero")
        return value

    return parse


def parse(arguments: list[str], program: str) -> argparse.Namespace:
    """Reads URL, options and command; exits with 2 where they make no sense."""
    parser = argparse.ArgumentParser(prog=program)
    parser.add_argument("url")
    parser.add_argument("--token", help="sent as Authorization: Bearer")
    parser.add_argument("--token-file", help="the token is this file's content")
    parser.add_argument("--ca", help="PEM file; nothing else is trusted")
    parser.add_argument("--resolve", type=_resolve, action="append", default=[], metavar="HOST:ADDRESS")
    parser.add_argument("--header", type=_header, action="append", default=[], metavar="NAME:VALUE")
    parser.add_argument("--era", choices=ERAS, default="auto")
    parser.add_argument("--unasked", action="store_true", help="in steps: say that nobody can be asked here")
    parser.add_argument("--timeout", type=_positive(float), default=30.0, metavar="SECONDS")

    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the names of all tools, page by page")
    for name, text in (
        ("call", "one call"),
        ("twice", "two calls on one connection"),
        ("progress", "one call whose progress is printed as it comes"),
    ):
        _tool(commands.add_parser(name, help=text))
    limit = commands.add_parser("limit", help="N calls at once after another, then one more after the wait they were told")
    limit.add_argument("calls", type=_positive(int), metavar="N")
    _tool(limit)
    limit.add_argument("--patience", type=_positive(float), default=30.0, metavar="SECONDS")
    steps = commands.add_parser("steps", help="one thing after another on one connection, also questions, news, prompts, resources")
    steps.add_argument("steps", type=_steps, metavar="JSON")
    load = commands.add_parser("load", help="calls until the time is up or standard input ends")
    load.add_argument("seconds", type=_positive(float), metavar="SECONDS")
    _tool(load)
    load.add_argument("--clients", type=_positive(int), default=1, metavar="N", help="connections, each calling by itself")
    load.add_argument("--pause", type=float, default=0.0, metavar="SECONDS", help="between a client's calls")

    options = parser.parse_args(arguments)
    if options.token and options.token_file:
        parser.error("--token or --token-file, not both")
    return options


def _tool(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tool", metavar="TOOL")
    parser.add_argument("arguments", type=_json_object, nargs="?", default={}, metavar="JSON")

"""What does not work and is not the gateway's to mend: patterns of client, era, endpoint and check, and the reason.

One that no longer fails anywhere is reported, and has to be struck here.
"""

KNOWN: list[tuple[str, str, str, str, str]] = []

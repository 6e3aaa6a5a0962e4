"""The PyPI package httpx-sse. It does not reconnect: as its documentation says, the program does, with Last-Event-ID.

Usage: python httpx_sse_client.py URL
Prints one line of JSON for each event that is not the broker's own, until it is killed.
"""

import json
import sys
import time

import httpx
from httpx_sse import connect_sse

RECONNECTS_MAX = 1_000


def main() -> None:
    url = sys.argv[1]
    last_event_id = ""
    retry_ms = 1_000
    with httpx.Client(timeout=httpx.Timeout(10.0, read=60.0), trust_env=False) as client:
        for _ in range(RECONNECTS_MAX):
            headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
            try:
                with connect_sse(client, "GET", url, headers=headers) as source:
                    source.response.raise_for_status()
                    for event in source.iter_sse():
                        last_event_id = event.id
                        if event.retry is not None:
                            retry_ms = event.retry
                        if not event.event.startswith("$"):
                            line = {"id": event.id, "type": event.event, "data": event.data}
                            print(json.dumps(line), flush=True)
            except httpx.HTTPStatusError:
                raise
            except httpx.HTTPError as error:
                print(f"httpx-sse: {error!r}", file=sys.stderr, flush=True)
            time.sleep(retry_ms / 1_000)
    sys.exit("reconnected too often")


main()

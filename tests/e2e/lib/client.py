"""client.py WS_URL: prints each message as one line; OPEN and CLOSE code on stderr."""
import asyncio
import sys

import websockets


async def main(url):
    async with websockets.connect(url, max_size=None) as ws:
        print("OPEN", file=sys.stderr, flush=True)
        try:
            async for message in ws:
                print(message, flush=True)
        finally:
            print("CLOSE", ws.close_code, file=sys.stderr, flush=True)


asyncio.run(main(sys.argv[1]))

#!/usr/bin/env python3
"""A till that goes on without the server: it keeps orders in a file until they are counted, each under a key of its own.

    python3 examples/till.py --server http://localhost:3000 --outbox till.ndjson

reads one order a line from standard input, such as "A1 2" (the id of a product and an amount; without an amount it is
1, and a negative one is a return), and prints each when it is counted. What is not counted at the end of the input, or
when the program is killed, is sent by the next run with the same file. Standard library only, Python 3.8 or newer.
"""

import argparse
import json
import os
import queue
import random
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid

# The server takes up to 1,000 orders in one request.
MOST_AT_ONCE = 500
# Seconds.
DEADLINE = 10
FIRST_WAIT, LONGEST_WAIT = 0.25, 15
# The server keeps keys for 24 hours. An order that is sent again after that would be counted twice.
MOST_AGE = 23 * 3600


class Outbox:
    """Orders in a file, one JSON object a line. A line is on the disk before its order is sent."""

    def __init__(self, path):
        self.path = path
        self.orders = []
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                for line in file:
                    # A line without its end was being written when the program was killed; it was not sent.
                    if line.endswith("\n"):
                        self.orders.append(json.loads(line))
        self.write(self.orders)

    def write(self, orders):
        """Replaces the file as a whole: after a power cut there is the former one or the new one."""
        temporary = self.path + ".new"
        with open(temporary, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(order) + "\n" for order in orders)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path)
        folder = os.open(os.path.dirname(self.path) or ".", os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        self.file = open(self.path, "a", encoding="utf-8")

    def add(self, product, amount):
        order = {"id": product, "amount": amount, "key": str(uuid.uuid4()), "made": time.time()}
        self.file.write(json.dumps(order) + "\n")
        self.file.flush()
        os.fsync(self.file.fileno())
        self.orders.append(order)

    def remove(self, orders):
        keys = {order["key"] for order in orders}
        self.orders = [order for order in self.orders if order["key"] not in keys]
        self.file.close()
        self.write(self.orders)


class Rejected(Exception):
    """The server will never count these orders: it says which ones are wrong."""

    def __init__(self, detail, results):
        super().__init__(detail)
        self.results = results


def post(server, token, orders):
    """Counts all of these orders or none. Raises Rejected, or OSError when it is worth trying again."""
    body = "".join(json.dumps({name: order[name] for name in ("id", "amount", "key")}) + "\n" for order in orders)
    headers = {"Content-Type": "application/x-ndjson"}
    if token:
        headers["Authorization"] = "Bearer " + token
    request = urllib.request.Request(server.rstrip("/") + "/orders", body.encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
            answer.read()
    except urllib.error.HTTPError as error:
        try:
            problem = json.loads(error.read())
        except ValueError:
            problem = {}
        detail = problem.get("detail", f"status {error.code}")
        if error.code in (410, 422) and "results" in problem:
            raise Rejected(detail, problem["results"]) from None
        # A server that is stopping or has no room, and a proxy without its server, will answer otherwise later.
        if error.code in (408, 425, 429) or error.code >= 500:
            raise OSError(detail) from None
        raise SystemExit(f"{error.code}: {detail}")


def send(server, token, outbox):
    """Sends what the outbox has, until the server does not answer. Raises OSError then."""
    while outbox.orders:
        too_old = [order for order in outbox.orders if time.time() - order["made"] > MOST_AGE]
        if too_old:
            for order in too_old:
                print(f"expired {order['id']} {order['amount']}: compare the total by hand", file=sys.stderr)
            outbox.remove(too_old)
            continue
        orders = outbox.orders[:MOST_AT_ONCE]
        try:
            post(server, token, orders)
        except Rejected as rejected:
            # No order was counted. Those that are wrong are taken out, and the others sent again.
            wrong = [(order, it["error"]) for order, it in zip(orders, rejected.results) if "error" in it]
            for order, why in wrong:
                print(f"rejected {order['id']} {order['amount']}: {why}", file=sys.stderr)
            outbox.remove([order for order, _ in wrong])
            continue
        outbox.remove(orders)
        for order in orders:
            print(f"counted {order['id']} {order['amount']}", flush=True)


def read_orders(lines, wanted):
    """Reads standard input beside the sending, so that the till takes orders while the server is away."""
    for line in lines:
        product, _, amount = line.strip().partition(" ")
        if not product:
            continue
        try:
            wanted.put((product, int(amount or 1)))
        except ValueError:
            print(f"not an order: {line.strip()}; write the id of a product and an amount", file=sys.stderr)
    wanted.put(None)


def main():
    parser = argparse.ArgumentParser(description="Sends orders from standard input, also after the server was away.")
    parser.add_argument("--server", default="http://localhost:3000")
    parser.add_argument("--outbox", default="till.ndjson", help="the file with orders that are not counted yet")
    parser.add_argument("--token-file", help="a file whose first line is the token, if the server needs one")
    arguments = parser.parse_args()
    token = None
    if arguments.token_file:
        with open(arguments.token_file, encoding="ascii") as file:
            token = file.readline().strip()
    outbox = Outbox(arguments.outbox)
    wanted = queue.Queue(maxsize=1000)
    threading.Thread(target=read_orders, args=(sys.stdin, wanted), daemon=True).start()
    is_open, wait = True, FIRST_WAIT
    while is_open or outbox.orders:
        pause = 0
        try:
            send(arguments.server, token, outbox)
            wait = FIRST_WAIT
        except OSError as error:
            print(f"{len(outbox.orders)} waiting: {error}", file=sys.stderr, flush=True)
            pause = wait * random.uniform(0.5, 1)
            wait = min(2 * wait, LONGEST_WAIT)
        if is_open:
            is_open = take_orders(wanted, outbox, pause)
        else:
            time.sleep(pause)


def take_orders(wanted, outbox, pause):
    """Takes orders for so many seconds, or the next ones if there is nothing to wait for. Returns False at the end."""
    until = time.monotonic() + pause
    for _ in range(MOST_AT_ONCE):
        left = until - time.monotonic()
        try:
            order = wanted.get(timeout=max(left, 0)) if outbox.orders else wanted.get()
        except queue.Empty:
            return True
        if order is None:
            time.sleep(max(until - time.monotonic(), 0))
            return False
        outbox.add(*order)
    time.sleep(max(until - time.monotonic(), 0))
    return True


if __name__ == "__main__":
    main()

"""Writers of events, and an independent ledger of what a gateway has acknowledged."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc

from winnow.client import Event, WinnowClient, WinnowError

USERS = [f"secret-user-{number}" for number in range(6)]
WRITERS = 4
EVENTS_PER_CALL = 5


@dataclass
class Ledger:
    """What writers have sent, a call at a time, and what was acknowledged."""

    sent: list[list[Event]] = field(default_factory=list)
    acknowledged: list[list[Event]] = field(default_factory=list)
    errors: list[WinnowError] = field(default_factory=list)

    def check(self, stored: set[Event]) -> None:
        """Every acknowledged event is stored, and each call as a whole or not at all."""
        assert self.acknowledged
        for call in self.acknowledged:
            assert stored.issuperset(call)
        for call in self.sent:
            assert len(stored.intersection(call)) in (0, len(call))
        assert stored <= {event for call in self.sent for event in call}


@contextmanager
def writers(target: str, ledger: Ledger, name: str) -> Iterator[None]:
    """Write from several threads until the block ends."""
    stop = threading.Event()
    # Four writers queue for one disk, which may take a second for each of them.
    with WinnowClient(target, timeout_seconds=10, retries=False) as client:

        def write(number: int) -> None:
            count = 0
            while not stop.is_set():
                count += 1
                call = [
                    Event(
                        user_id=USERS[(number + count + at) % len(USERS)],
                        item_id=f"secret-item-{at}",
                        time=1_700_000_000 + count,
                        event_id=f"{name} {number} {count} {at}",
                    )
                    for at in range(EVENTS_PER_CALL)
                ]
                ledger.sent.append(call)
                try:
                    client.write_events(call)
                    ledger.acknowledged.append(call)
                except WinnowError as error:
                    ledger.errors.append(error)
                    stop.wait(0.02)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def wait_for(ledger: Ledger, count: int) -> None:
    give_up = time.monotonic() + 60
    wanted = len(ledger.acknowledged) + count
    while len(ledger.acknowledged) < wanted:
        assert time.monotonic() < give_up, f"hardly any event is acknowledged: {ledger.errors[-1:]}"
        time.sleep(0.01)


def fill(client: WinnowClient, user_id: str) -> None:
    """Write events of a user until there is no room for them."""
    give_up = time.monotonic() + 60
    while True:
        assert time.monotonic() < give_up, "there is always room"
        try:
            client.write_events([Event(user_id=user_id, item_id="x" * 500) for _ in range(200)])
        except WinnowError as error:
            assert error.code is grpc.StatusCode.UNAVAILABLE
            return


def stored_events(target: str) -> set[Event]:
    with WinnowClient(target, timeout_seconds=10) as client:
        return {event for user_id in USERS for event in client.history(user_id)}

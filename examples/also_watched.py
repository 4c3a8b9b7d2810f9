"""A candidate source of one's own: what others watched next. The gateway ranks it with the network's candidates.

    python -m examples.also_watched log.csv --port 50060
    python -m gateway --external-sources '[{"name": "also_watched", "target": "localhost:50060"}]' ...

Any language will do: the contract is protos/winnow/v1/source.proto.
"""

import argparse
import csv
from collections import Counter, defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc

from winnow.v1 import source_pb2, source_pb2_grpc

# The latest watches say most about what comes next.
WATCHES_READ = 10

Followers = dict[str, Counter[str]]


class AlsoWatched(source_pb2_grpc.CandidateSourceServiceServicer):
    """Proposes the items that most often came right after one of the latest watches."""

    def __init__(self, followers: Followers) -> None:
        self._followers = followers

    def ProposeCandidates(
        self, request: source_pb2.ProposeCandidatesRequest, context: Any
    ) -> source_pb2.ProposeCandidatesResponse:
        """Answer every query of the call, in order."""
        return source_pb2.ProposeCandidatesResponse(proposals=map(self._propose, request.queries))

    def _propose(self, query: source_pb2.CandidateQuery) -> source_pb2.ProposedCandidates:
        counts: Counter[str] = Counter()
        for item_id in query.history_item_ids[-WATCHES_READ:]:
            counts.update(self._followers.get(item_id, {}))
        best = counts.most_common(query.candidate_count)
        return source_pb2.ProposedCandidates(
            item_ids=[item_id for item_id, _ in best], scores=[count for _, count in best]
        )


def read_followers(rows: Iterable[dict[str, str]]) -> Followers:
    """Count, for each item, which item the same user watched next."""
    histories: defaultdict[str, list[tuple[float, str]]] = defaultdict(list)
    for row in rows:
        histories[row["user_id"]].append((float(row["timestamp"]), row["item_id"]))
    followers: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for watches in histories.values():
        for (_, watched), (_, following) in pairwise(sorted(watches)):
            followers[watched][following] += 1
    return followers


def serve(followers: Followers, port: int) -> grpc.Server:
    """Start to serve; the gateway asks on the same machine. Raises RuntimeError where the port is taken."""
    server = grpc.server(ThreadPoolExecutor(max_workers=4))
    source_pb2_grpc.add_CandidateSourceServiceServicer_to_server(AlsoWatched(followers), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server


def main() -> None:
    """Read a log as `winnow train` takes it, CSV with timestamps in seconds, and serve until stopped."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("log", type=Path)
    parser.add_argument("--port", type=int, default=50060)
    arguments = parser.parse_args()
    with arguments.log.open(newline="", encoding="utf-8") as file:
        followers = read_followers(csv.DictReader(file))
    print(f"{len(followers)} items have followers; listening on port {arguments.port}", flush=True)
    serve(followers, arguments.port).wait_for_termination()


if __name__ == "__main__":
    main()

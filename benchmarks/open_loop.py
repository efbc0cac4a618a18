"""Callers that do not wait for answers, and one that asks for health, as a process of their own.

New calls start at the times of a Poisson process, whatever became of those before. Every latency
counts from the time at which its call should have started, so that a late caller hides nothing. The
caller shares the server's cores: http2_calls.py takes as little of them as it can.

    python -m benchmarks.open_loop localhost:50051 --rate 300 --seconds 5
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import itertools
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import grpc
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from benchmarks.arguments import above, at_least
from benchmarks.http2_calls import Call, Connection, turn

EMBED = "/sparseclip.v1.EmbeddingService/Embed"
CHECK = "/grpc.health.v1.Health/Check"

Summary = dict[str, Any]


async def embed(send: Any, payload: bytes, due: float, deadline: float) -> Call:
    """Makes one call, without a retry."""
    started = time.perf_counter()
    try:
        await send(payload, timeout=deadline)
        outcome = "OK"
    except grpc.aio.AioRpcError as error:
        outcome = error.code().name + ("+RetryInfo" if has_retry_info(error) else "")
    return Call(due, started, time.perf_counter(), outcome)


def has_retry_info(error: grpc.aio.AioRpcError) -> bool:
    """Whether the server named a delay after which the call may be tried again."""
    # Any: grpc's types do not say that its metadata are pairs.
    metadata: Any = error.trailing_metadata() or ()
    details = dict(metadata).get("grpc-status-details-bin", b"")
    return any(detail.Is(RetryInfo.DESCRIPTOR) for detail in Status.FromString(details).details)


def offer(
    address: str,
    method: str,
    payload: bytes,
    *,
    rate: float,
    seconds: float,
    deadline: float,
    channels: int,
    headers: dict[str, str],
) -> list[Call]:
    """Offers calls at a rate, on each connection in turn, and waits for the last of them."""
    connections = [Connection(address, method, payload, deadline, headers) for _ in range(channels)]
    turns = itertools.cycle(connections)
    rng = random.Random(0)
    due = time.perf_counter()
    end = due + seconds
    while due < end:
        turn(connections, until=due)
        next(turns).start(due)
        due += rng.expovariate(rate)
    while any(connection.is_busy for connection in connections):
        turn(connections, until=time.perf_counter() + 0.01)
    for connection in connections:
        connection.close()
    calls = [call for connection in connections for call in connection.calls]
    return sorted(calls, key=lambda call: call.due)


async def burst(
    address: str, payload: bytes, *, count: int, deadline: float, channels: int
) -> list[Call]:
    """Starts all calls at once, on connections that were never used before."""
    opened = [grpc.aio.insecure_channel(address, _options(n)) for n in range(channels)]
    sends = [channel.unary_unary(EMBED, None, None) for channel in opened]
    now = time.perf_counter()
    calls = await asyncio.gather(
        *(embed(sends[n % channels], payload, now, deadline) for n in range(count))
    )
    for channel in opened:
        await channel.close(None)
    return list(calls)


def _options(number: int) -> list[tuple[str, int]]:
    # Channels with equal options share a connection.
    return [("grpc.enable_retries", 0), ("benchmark.channel", number)]


def summary(calls: list[Call], *, seconds: float, deadline: float, warm: float = 0.0) -> Summary:
    """Goodput, and the latencies of each outcome; calls of the first `warm` seconds do not count.

    Goodput counts answers that came within the deadline.
    """
    first = calls[0].due + warm
    counted = [call for call in calls if call.due >= first]
    if not counted:
        raise SystemExit("--seconds: no call started after --warm; give more of them, or a --rate")
    by_outcome = collections.defaultdict(list)
    for call in counted:
        by_outcome[call.outcome].append((call.ended - call.due) * 1e3)
    good = sum(time_ms <= deadline * 1e3 for time_ms in by_outcome["OK"])
    return {
        "offered_per_second": round(len(counted) / (seconds - warm), 1),
        "goodput_per_second": round(good / (seconds - warm), 1),
        "outcomes": {outcome: len(times) for outcome, times in by_outcome.items() if times},
        "latency_ms": {outcome: spread(times) for outcome, times in by_outcome.items() if times},
        "caller_late_ms": spread([(call.started - call.due) * 1e3 for call in counted]),
    }


def spread(times: list[float]) -> dict[str, float]:
    """Median, 99th percentile and maximum."""
    ordered = sorted(times)
    return {
        "p50": round(ordered[len(ordered) // 2], 2),
        "p99": round(ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)], 2),
        "max": round(ordered[-1], 2),
    }


def main() -> None:
    """Runs one caller and prints what it measured as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("address")
    parser.add_argument("--payload", type=Path, help="a file with the bytes of an EmbedRequest")
    pace = parser.add_mutually_exclusive_group(required=True)
    pace.add_argument("--rate", type=above(0), help="calls per second")
    pace.add_argument(
        "--burst", type=at_least(1), help="calls that start at once, instead of a rate"
    )
    parser.add_argument("--health", action="store_true", help="ask for health instead")
    parser.add_argument("--seconds", type=above(0), default=5.0)
    parser.add_argument("--warm", type=float, default=0.0, help="seconds that do not count")
    parser.add_argument("--deadline", type=above(0), default=2.0)
    parser.add_argument("--channels", type=at_least(1), default=1, help="connections")
    parser.add_argument("--header", action="append", default=[], help="of each call, as k=v")
    given = parser.parse_args()
    if not given.health and given.payload is None:
        parser.error("--payload: must be given without --health")
    if not 0 <= given.warm < given.seconds:
        parser.error("--warm: must be at least 0 and below --seconds")
    method, payload = (CHECK, b"") if given.health else (EMBED, given.payload.read_bytes())
    cpu = time.process_time()
    if given.burst:
        work = burst(
            given.address,
            payload,
            count=given.burst,
            deadline=given.deadline,
            channels=given.channels,
        )
        calls, seconds = asyncio.run(work), 1.0
    else:
        seconds = given.seconds
        calls = offer(
            given.address,
            method,
            payload,
            rate=given.rate,
            seconds=seconds,
            deadline=given.deadline,
            channels=given.channels,
            headers=dict(header.split("=", 1) for header in given.header),
        )
    result = summary(calls, seconds=seconds, deadline=given.deadline, warm=given.warm)
    result["caller_cpu_ms_per_call"] = round((time.process_time() - cpu) * 1e3 / len(calls), 3)
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()

"""Bulk streams: order, bounded memory, breaks, deadlines, and what the caller does half-way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sparseclip import AsyncClient, CallError, Client, Item, Outputs
from tests.sparseclip.conftest import FAST
from tests.sparseclip.scripted import WIDTH, Scripted, abort, code_of

NUMBERS = [b"%d" % number for number in range(50)]


def test_answers_come_in_the_order_of_the_items(client: Client, tmp_path: Path) -> None:
    def items() -> Iterator[bytes | Path | Item]:
        yield from NUMBERS
        yield tmp_path / "missing.png"
        yield b"poison"
        yield Item(source="my text", text="hello")

    answers = list(client.embed_stream(items(), window=7))
    assert [answer.source for answer in answers[:50]] == [f"image[{n}]" for n in range(50)]
    for answer, content in zip(answers, NUMBERS, strict=False):
        assert answer.indices.tolist() == code_of(content)[0]
        assert answer.width == WIDTH
    codes = [answer.status.code.name for answer in answers[50:]]
    assert codes == ["NOT_FOUND", "INVALID_ARGUMENT", "OK"]
    assert answers[-1].source == "my text"


def test_no_more_than_the_window_is_held(client: Client) -> None:
    taken = given = widest = 0

    def items() -> Iterator[bytes]:
        nonlocal taken, widest
        for content in NUMBERS:
            taken += 1
            widest = max(widest, taken - given)
            yield content

    for _ in client.embed_stream(items(), window=6):
        given += 1
    assert given == 50
    assert widest <= 6


def test_local_failures_alone_never_wait(client: Client, tmp_path: Path) -> None:
    missing = [tmp_path / str(number) for number in range(20)]
    answers = list(client.embed_stream(missing, window=3))
    assert [answer.status.code.name for answer in answers] == ["NOT_FOUND"] * 20


@pytest.mark.parametrize("count", [1, 3, 7])
def test_the_server_learns_at_once_that_no_more_will_come(client: Client, count: int) -> None:
    # The scripted server answers pairs, and an odd last one only at the end of the requests.
    assert len(list(client.embed_stream(NUMBERS[:count], window=8))) == count


def test_nothing_in_nothing_out(client: Client) -> None:
    assert list(client.embed_stream([])) == []


@pytest.mark.parametrize("end_early", [False, True])
def test_a_broken_stream_goes_on_where_it_was(
    client: Client, script: Scripted, end_early: bool
) -> None:
    script.end_early = end_early
    script.break_streams_after = [5, 0, 9]
    answers = list(client.embed_stream(NUMBERS, window=8))
    assert [answer.indices.tolist() for answer in answers] == [code_of(n)[0] for n in NUMBERS]
    assert len(script.streams) == 4


def test_progress_forgives_earlier_breaks(client: Client, script: Scripted) -> None:
    script.break_streams_after = [2] * (2 * FAST.attempts)
    assert len(list(client.embed_stream(NUMBERS, window=8))) == 50
    assert len(script.streams) == 2 * FAST.attempts + 1


def test_a_server_that_stays_broken_ends_the_stream(client: Client, script: Scripted) -> None:
    script.break_streams_after = [0] * 50
    with pytest.raises(CallError, match="UNAVAILABLE"):
        list(client.embed_stream(NUMBERS))
    assert len(script.streams) == FAST.attempts


def test_other_errors_end_the_stream_at_once(client: Client, script: Scripted) -> None:
    import grpc

    script.faults = [abort(grpc.StatusCode.UNAUTHENTICATED, "who are you")]
    with pytest.raises(CallError, match="who are you"):
        list(client.embed_stream(NUMBERS))
    assert script.calls == 1


def test_the_callers_own_error_comes_through(client: Client, script: Scripted) -> None:
    def items() -> Iterator[bytes]:
        yield from NUMBERS[:3]
        assert script.blocked.wait(5)
        raise OSError("the disk is gone")

    script.block_after = 1
    with pytest.raises(OSError, match="the disk is gone"):
        list(client.embed_stream(items()))
    assert script.cancelled.wait(5)


def test_walking_away_cancels_the_call(client: Client, script: Scripted) -> None:
    script.block_after = 2
    answers = client.embed_stream(NUMBERS, window=4)
    assert next(answers).ok
    assert script.blocked.wait(5)  # gRPC ends a handler silently that it has not come back to
    answers.close()
    assert script.cancelled.wait(5)


def test_a_bulk_job_outlives_the_longest_deadline(client: Client, script: Scripted) -> None:
    script.limits.max_deadline_seconds = 1

    def items() -> Iterator[bytes]:
        for number, content in enumerate(NUMBERS[:12]):
            if number % 4 == 3:
                time.sleep(0.6)
            yield content

    answers = list(client.embed_stream(items(), window=4))
    assert [answer.ok for answer in answers] == [True] * 12
    assert len(script.streams) >= 3


def test_a_caller_may_pause_longer_than_the_deadline(client: Client, script: Scripted) -> None:
    script.limits.max_deadline_seconds = 1
    answers = []
    for answer in client.embed_stream(NUMBERS[:12], window=4):
        if len(answers) == 4:
            time.sleep(1.3)
        answers.append(answer)
    assert [a.indices.tolist() for a in answers] == [code_of(n)[0] for n in NUMBERS[:12]]
    assert len(script.streams) >= 2


def test_a_server_that_never_answers_meets_the_deadline(client: Client, script: Scripted) -> None:
    script.limits.max_deadline_seconds = 1
    script.hold = True
    with pytest.raises(CallError, match="DEADLINE_EXCEEDED"):
        list(client.embed_stream(NUMBERS, window=4))


def test_a_reload_half_way_is_visible_in_the_rows(client: Client, script: Scripted) -> None:
    def items() -> Iterator[bytes]:
        yield from NUMBERS[:10]
        script.version = "2"
        yield from NUMBERS[10:]

    answers = list(client.embed_stream(items(), window=2))
    assert (answers[0].width, answers[-1].width) == (WIDTH, 2 * WIDTH)


def test_the_window_must_hold_something(client: Client) -> None:
    with pytest.raises(ValueError, match="window"):
        client.embed_stream([], window=0)


def test_a_negative_count_is_refused(client: Client) -> None:
    with pytest.raises(ValueError, match="top_concepts"):
        client.embed_stream([], outputs=Outputs(top_concepts=-1))


async def test_asyncio_streams_the_same_way(address: str, script: Scripted, tmp_path: Path) -> None:
    async def slow() -> AsyncIterator[bytes | Path]:
        yield tmp_path / "missing"
        for content in NUMBERS:
            yield content

    script.break_streams_after = [5, 0]
    async with AsyncClient(address, retry=FAST) as client:
        answers = [answer async for answer in client.embed_stream(slow(), window=8)]
        assert not answers[0].ok
        assert [a.indices.tolist() for a in answers[1:]] == [code_of(n)[0] for n in NUMBERS]
        assert len(script.streams) == 3
        again = [answer async for answer in client.embed_stream(NUMBERS, window=3)]
        assert [answer.ok for answer in again] == [True] * 50
        script.break_streams_after = [0] * 50
        with pytest.raises(CallError, match="UNAVAILABLE"):
            async for _ in client.embed_stream(NUMBERS):
                pass


async def test_asyncio_walking_away_cancels_the_call(address: str, script: Scripted) -> None:
    script.block_after = 2
    async with AsyncClient(address, retry=FAST) as client:
        answers = client.embed_stream(NUMBERS, window=4)
        assert (await anext(answers)).ok
        await answers.aclose()
        assert await asyncio.to_thread(script.cancelled.wait, 5)

"""A request is made again after a break as long as it gets further, a few times without that, and never after an answer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sshmap.client import retrying
from sshmap.client.retrying import FIRST_TRIES, TRIES, Retries, again, persist
from sshmap.errors import (
    ConnectionDropped,
    ConversationBroken,
    HostLost,
    HostNotReady,
    KeyExists,
    ProtocolError,
    SshmapError,
)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for between two tries."""
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)


class Talk:
    """Says numbers, and breaks off after some of them each time until all were said."""

    def __init__(self, until: int, at_once: int, error: type[SshmapError] = ConversationBroken) -> None:
        self.until, self.at_once, self.error = until, at_once, error
        self.said, self.tries = 0, 0
        self.retries = Retries(lambda: self.said)

    def __call__(self) -> Iterator[int]:
        """Say the next few."""
        self.tries += 1
        self.retries.opened = True
        for _ in range(self.at_once):
            if self.said == self.until:
                return
            self.said += 1
            yield self.said
        raise self.error("broke")


def test_request_that_gets_further_goes_on_however_often_it_breaks() -> None:
    talk = Talk(until=200, at_once=3)
    assert list(persist(talk.retries, talk)) == list(range(1, 201))


def test_request_that_gets_no_further_ends_after_some_tries() -> None:
    talk = Talk(until=9, at_once=0)
    with pytest.raises(ConversationBroken):
        list(persist(talk.retries, talk))
    assert talk.tries == TRIES


def test_host_that_never_answered_is_tried_less_often() -> None:
    tries = 0

    def call() -> None:
        nonlocal tries
        tries += 1
        raise ConversationBroken("broke")

    with pytest.raises(ConversationBroken):
        again(call)
    assert tries == FIRST_TRIES


def test_server_that_drops_connections_is_tried_as_often_as_one_that_answered() -> None:
    tries = iter(range(TRIES))

    def call() -> int:
        if (number := next(tries)) < TRIES - 1:
            raise ConnectionDropped("MaxStartups")
        return number

    assert again(call) == TRIES - 1


@pytest.mark.parametrize("kind", [HostLost, HostNotReady, ProtocolError, KeyExists])
def test_what_is_an_answer_is_not_asked_for_again(kind: type[SshmapError]) -> None:
    talk = Talk(until=9, at_once=2, error=kind)
    with pytest.raises(kind):
        list(persist(talk.retries, talk))
    assert talk.tries == 1


def test_no_try_is_begun_when_nothing_has_come_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "PATIENCE", -1.0)
    talk = Talk(until=9, at_once=0)
    with pytest.raises(ConversationBroken):
        list(persist(talk.retries, talk))
    assert talk.tries == 1


def test_session_that_was_dead_before_it_was_used_does_not_count() -> None:
    talk = Talk(until=9, at_once=0)
    talk.retries.uncount_break()
    with pytest.raises(ConversationBroken):
        list(persist(talk.retries, talk))
    assert talk.tries == TRIES + 1


@pytest.mark.parametrize("breaks_before", [0, 1, 2])
def test_request_may_be_left_half_way(breaks_before: int) -> None:
    left: list[int] = []

    def talk() -> Iterator[int]:
        if len(left) < breaks_before:
            left.append(0)
            raise ConversationBroken("broke")
        try:
            yield 1
            yield 2
        finally:
            left.append(1)

    answers = persist(Retries(lambda: len(left)), talk)
    assert next(answers) == 1
    answers.close()
    assert left == [0] * breaks_before + [1]

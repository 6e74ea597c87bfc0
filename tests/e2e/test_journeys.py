"""What people do in the forum, through TLS, on every edge address."""

from collections.abc import Callable

import pytest

from drills.forum import Account, ForumError, Visitor, pause_between_posts
from drills.lab import Lab

Guest = Callable[..., Visitor]
Member = Callable[..., tuple[Visitor, Account]]
CATEGORY = 3


def test_register_and_sign_in_again(edge: str, guest: Guest, member: Member) -> None:
    visitor, account = member(edge)
    assert visitor.who()["username"] == account.username
    visitor.sign_out()
    assert visitor.who()["id"] is None
    visitor.sign_in(account)
    assert visitor.who()["username"] == account.username


def test_a_wrong_password_is_answered_400(edge: str, lab_account: Account, guest: Guest) -> None:
    with pytest.raises(ForumError) as refused:
        guest(edge).sign_in(Account(lab_account.username, "not his password"))
    assert refused.value.reply.status == 400
    assert refused.value.reply.json()["code"] == "invalid_login"


def test_a_write_without_the_csrf_token_is_refused(edge: str, guest: Guest) -> None:
    visitor = guest(edge)
    assert visitor.browser.post("/api/auth/", {"username": "a", "password": "b"}).status == 403


def test_a_guest_may_not_write(edge: str, guest: Guest) -> None:
    visitor = guest(edge)
    visitor.arrive()
    with pytest.raises(ForumError) as refused:
        visitor.start_thread(CATEGORY, "A guest's thread", "A guest's post")
    assert refused.value.reply.status == 403


def test_thread_reply_watch_and_lists(edge: str, guest: Guest, member: Member) -> None:
    alice, _ = member(edge)
    bob, _ = member(edge)
    thread = alice.start_thread(CATEGORY, f"Journey over {edge}", "The first post of a journey.")
    assert thread in alice.threads("my")
    assert thread in bob.threads("new")

    first = bob.page(thread, 1).posts[0]
    bob.mark_read(thread, first.id)
    assert thread not in bob.threads("new")
    reply = bob.reply(thread, "An answer to the first post.")
    assert "An answer to the first post." in reply.content

    assert bob.watch(thread) == 1
    assert thread in bob.threads("watched")
    pause_between_posts()
    last = alice.reply(thread, "And a last word.")
    assert thread in bob.threads("unread")
    bob.mark_read(thread, last.id)
    assert thread not in bob.threads("unread")
    assert bob.watch(thread, 0) == 0
    assert thread not in bob.threads("watched")

    assert [post.id for post in guest(edge).posts(thread)] == [first.id, reply.id, last.id]
    assert thread in guest(edge).threads()


def test_posting_again_at_once_is_flood(member: Member) -> None:
    visitor, _ = member()
    thread = visitor.start_thread(CATEGORY, "Somebody in a hurry", "One post.")
    with pytest.raises(ForumError) as refused:
        visitor.reply(thread, "And another one at once.")
    assert refused.value.flood


def test_whoever_watches_is_told_of_an_answer(notify: Callable[[], float]) -> None:
    assert notify() < 30


def test_the_administrator_can_sign_in(edge: str, lab: Lab, guest: Guest) -> None:
    assert guest(edge).sign_in(lab.admin)["username"] == lab.admin.username


@pytest.fixture(scope="module")
def lab_account(member: Member) -> Account:
    return member()[1]

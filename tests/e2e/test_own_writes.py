"""No visitor reads older than his own last write, whichever edge, Misago and Pgpool serve him."""

from collections.abc import Callable

from drills.forum import Account, Visitor

Member = Callable[..., tuple[Visitor, Account]]
EDITS = 60
WATCHES = 20


def test_an_edit_is_seen_at_once(member: Member) -> None:
    visitor, _ = member()
    thread = visitor.start_thread(3, "A thread that is edited often", "version 0")
    post = visitor.page(thread, 1).posts[0].id
    older = []
    for number in range(1, EDITS + 1):
        visitor.edit(thread, post, f"version {number}.")
        seen = visitor.page(thread, 1).posts[0].content
        if f"version {number}." not in seen:
            older.append((number, seen))
    assert not older


def test_watching_is_seen_at_once(member: Member) -> None:
    visitor, _ = member()
    thread = visitor.start_thread(3, "A thread that is watched and not", "Undecided.")
    older = []
    for number in range(WATCHES):
        wanted = number % 2
        visitor.watch(thread, wanted)
        if (thread in visitor.threads("watched")) != bool(wanted):
            older.append(number)
    assert not older


def test_a_new_thread_is_seen_at_once_by_its_author(member: Member) -> None:
    for _ in range(4):
        visitor, _ = member()
        thread = visitor.start_thread(3, "A thread of a newcomer", "Am I here?")
        assert thread in visitor.threads("my")
        assert visitor.page(thread, 1).posts

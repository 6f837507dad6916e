"""The demo: the story it tells, the comparison it makes, its folder, and one whole run in a process of its own."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from rich.console import Console
from sqlalchemy import text

import studio
from core.database import Database
from core.errors import Conflict, Misconfigured
from core.schema.messages import MessageState
from core.settings import Settings
from examples import PORTAL
from journeys import compiler, loader
from journeys.plan import Wait
from studio.demo import folder
from studio.demo.cli import apart, report
from studio.demo.client import Client
from studio.demo.figures import CaughtLetter, Facts, Message, Run, gather
from studio.demo.story import CHANGED, JOURNEY, LETTER, LONGEST, REMINDER, SAVED, SUBMITTED, Habit, Story, tell
from studio.demo.verdict import CLICKED, Verdict, judge
from studio.demo.visitors import Done
from studio.stack.supervisor import running_stack

FEW = 7
AT = datetime(2026, 11, 1, 10, tzinfo=UTC)


# The story


def test_seven_visitors_show_every_habit_and_nobody_is_mistaken_for_another() -> None:
    story = tell(200)
    assert {visitor.habit for visitor in tell(FEW).visitors} == set(Habit)
    for name in ("external_id", "email", "application_id"):
        assert len({getattr(visitor, name) for visitor in story.visitors}) == 200
    assert {visitor.language for visitor in story.visitors} == {"ru", "en"}
    assert tell(200) == story


def test_the_story_fits_the_journey_that_is_pushed() -> None:
    file = PORTAL / "journeys" / f"{JOURNEY}.yaml"
    plan = compiler.compile(loader.load(file.read_bytes(), str(file)))
    steps = {step.id for step in plan.steps}
    for visitor in tell(FEW).visitors:
        expected = visitor.expected
        assert expected.letters | expected.possible | expected.skipped <= steps
    waits = [step.seconds or 0 for step in plan.steps if isinstance(step, Wait)]
    assert sum(sorted(waits)[-2:]) == LONGEST.total_seconds()


# Its settings

_ELSEWHERE = {
    "DATABASE": "postgresql://kaskad:hunter2@db.example/kaskad",
    "TEMPORAL": "temporal.example:7233",
    "TEMPORAL_API_KEY": "hunter2",
    "SECRET_KEY": "the secret of the real installation",
    "EMAIL": "smtp://mail.example",
    "INBOUND_ADDRESS": "bounces.example.com",
    "INBOUND_PORT": "25",
    "INBOUND_MAILBOX": "imaps://user:hunter2@mail.example/INBOX",
    "SENTRY_DSN": "https://hunter2@sentry.example/1",
    "BASE_URL": "https://mail.example.com",
    "METRICS_PORT": "9100",
    "CALL_PRIVATE": "true",
}


def test_the_demo_takes_over_nothing_that_leads_to_a_real_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in _ELSEWHERE.items():
        monkeypatch.setenv(f"KASKAD_{name}", value)
    monkeypatch.setenv("KASKAD_LOG_LEVEL", "debug")
    monkeypatch.setenv("KASKAD_EVENT_BATCH_LIMIT", "77")
    settings = apart(Settings(data=tmp_path, port=8123))
    usual = Settings.model_construct()
    for name in _ELSEWHERE:
        assert getattr(settings, name.lower()) == getattr(usual, name.lower()), name
    assert (settings.data, settings.port, settings.demo) == (tmp_path / "demo", 8123, True)
    assert (settings.log_level, settings.event_batch_limit) == ("debug", 77)


# The comparison


def happened(story: Story) -> tuple[Done, Facts]:
    """What an installation holds in which everything went as the story says."""
    messages: list[Message] = []
    for visitor in story.visitors:
        expected = visitor.expected
        for step in sorted(expected.letters | expected.skipped):
            state = MessageState.SKIPPED if step in expected.skipped else MessageState.ACCEPTED
            reason = "no_consent" if step in expected.skipped else None
            number = UUID(int=len(messages) + 1)
            messages.append(Message(number, visitor.external_id, step, state, reason, visitor.email, AT))
    gone = [message for message in messages if message.state is MessageState.ACCEPTED]
    habits = [visitor.habit for visitor in story.visitors]
    done = Done(
        saved=len(habits),
        submitted=sum(habit in {Habit.AT_ONCE, Habit.AFTER_LETTER, Habit.CLICKS_AND_SUBMITS} for habit in habits),
        changed=habits.count(Habit.CHANGES),
        clicked=habits.count(Habit.CLICKS) + habits.count(Habit.CLICKS_AND_SUBMITS),
    )
    return done, Facts(
        runs=[Run(v.external_id, v.application_id, "finished", v.expected.outcome) for v in story.visitors],
        messages=messages,
        letters=[CaughtLetter(message.id, message.address or "") for message in gone],
        events={SAVED: done.saved, SUBMITTED: done.submitted, CHANGED: done.changed, CLICKED: done.clicked},
    )


def test_what_went_as_the_story_says_agrees() -> None:
    story = tell(20)
    verdict = judge(story, *happened(story))
    assert verdict.agrees, verdict.words()
    assert verdict.figures["visitors"] == verdict.figures["enrollments"] == 20


def _change(messages: Sequence[Message], index: int, **values: object) -> list[Message]:
    return [dataclasses.replace(m, **values) if n == index else m for n, m in enumerate(messages)]  # type: ignore[arg-type]


def _index(facts: Facts, state: MessageState) -> int:
    return next(n for n, message in enumerate(facts.messages) if message.state is state)


def test_every_kind_of_disagreement_is_found() -> None:
    story = tell(FEW)
    done, facts = happened(story)
    accepted, skipped = _index(facts, MessageState.ACCEPTED), _index(facts, MessageState.SKIPPED)
    runs, letters = list(facts.runs), list(facts.letters)
    second = dataclasses.replace(facts.messages[accepted], id=UUID(int=99))
    wrong: dict[str, Facts] = {
        "is 0 letters in the mailbox": dataclasses.replace(facts, letters=letters[1:]),
        "is 2 letters in the mailbox": dataclasses.replace(facts, letters=[*letters, letters[0]]),
        "no accepted message in the ledger": dataclasses.replace(facts, letters=[*letters, CaughtLetter(None, "x")]),
        "the ledger says": dataclasses.replace(
            facts, letters=[dataclasses.replace(letters[0], recipient="x"), *letters[1:]]
        ),
        "got the letter 2 times": dataclasses.replace(facts, messages=[*facts.messages, second]),
        "is in doubt": dataclasses.replace(
            facts, messages=_change(facts.messages, accepted, state=MessageState.IN_DOUBT)
        ),
        "is handing": dataclasses.replace(
            facts, messages=_change(facts.messages, accepted, state=MessageState.HANDING)
        ),
        "got the reminder, and must not have": dataclasses.replace(
            facts, messages=_change(facts.messages, accepted, step="reminder")
        ),
        "did not get the letter": dataclasses.replace(
            facts, messages=[m for n, m in enumerate(facts.messages) if n != accepted]
        ),
        "was withheld without a reason": dataclasses.replace(
            facts, messages=_change(facts.messages, skipped, reason=None)
        ),
        "was taken back, and they never submitted": dataclasses.replace(
            facts, messages=_change(facts.messages, skipped, reason="left_journey")
        ),
        "must have ended": dataclasses.replace(facts, runs=[dataclasses.replace(runs[0], outcome="x"), *runs[1:]]),
        "still active": dataclasses.replace(
            facts, runs=[dataclasses.replace(runs[0], state="active", outcome=None), *runs[1:]]
        ),
        "0 times instead of once": dataclasses.replace(facts, runs=runs[1:]),
        "entered for application": dataclasses.replace(facts, runs=[dataclasses.replace(runs[0], key="x"), *runs[1:]]),
        "drafts saved": dataclasses.replace(facts, events={**facts.events, SAVED: done.saved + 1}),
    }
    for words, changed in wrong.items():
        verdict = judge(story, done, changed)
        assert not verdict.agrees, words
        assert any(words in sentence for sentence in verdict.words()), (words, verdict.words())


def test_a_letter_that_was_taken_back_when_somebody_submitted_at_once_is_no_mistake() -> None:
    story = Story([visitor for visitor in tell(FEW).visitors if visitor.habit is Habit.AT_ONCE])
    done, facts = happened(story)
    visitor = story.visitors[0]
    taken_back = Message(
        UUID(int=77), visitor.external_id, "letter", MessageState.SKIPPED, "left_journey", visitor.email, AT
    )
    verdict = judge(story, done, dataclasses.replace(facts, messages=[*facts.messages, taken_back]))
    assert verdict.agrees, verdict.words()


def test_a_letter_that_was_on_its_way_when_somebody_submitted_at_once_is_no_mistake() -> None:
    story = Story([visitor for visitor in tell(FEW).visitors if visitor.habit is Habit.AT_ONCE])
    done, facts = happened(story)
    (visitor,) = story.visitors
    message = Message(UUID(int=5), visitor.external_id, LETTER, MessageState.ACCEPTED, None, visitor.email, AT)
    more = dataclasses.replace(facts, messages=[message], letters=[CaughtLetter(message.id, visitor.email)])
    assert judge(story, done, facts).agrees
    assert judge(story, done, more).agrees


@pytest.mark.parametrize(
    ("habit", "acted_after", "fits"),
    [
        (Habit.AFTER_LETTER, timedelta(seconds=-30), False),
        (Habit.AFTER_LETTER, timedelta(seconds=-1), True),
        (Habit.AFTER_LETTER, timedelta(seconds=30), True),
        (Habit.CLICKS, timedelta(seconds=-30), False),
        (Habit.CLICKS, timedelta(seconds=30), True),
        (Habit.NEVER, timedelta(seconds=30), True),
    ],
)
def test_nobody_who_acted_before_the_reminder_gets_it(habit: Habit, acted_after: timedelta, fits: bool) -> None:
    """On a machine so busy that somebody acts only after the wait has ended, the reminder is no mistake."""
    (visitor,) = [visitor for visitor in tell(FEW).visitors if visitor.habit is habit]
    done, facts = happened(Story([visitor]))
    if habit is not Habit.NEVER:
        done.acted_at[visitor.external_id] = AT + acted_after
        letter = next(message for message in facts.messages if message.step == LETTER)
        sent = [letter, dataclasses.replace(letter, id=UUID(int=50), step=REMINDER)]
        letters = [CaughtLetter(message.id, visitor.email) for message in sent]
        facts = dataclasses.replace(facts, messages=sent, letters=letters)
    assert judge(Story([visitor]), done, facts).agrees is fits


# Its folder


def test_an_earlier_demo_is_replaced_and_nothing_else_is(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("dear to me")
    with pytest.raises(Misconfigured, match="no demo made"):
        folder.fresh(mine)
    assert (mine / "letter.txt").read_text() == "dear to me"
    demo = tmp_path / "demo"
    assert not folder.fresh(demo)
    (demo / "old").write_text("x")
    assert folder.fresh(demo)
    assert not (demo / "old").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("demo.")] == []


def test_the_folder_of_a_running_demo_is_left_alone(tmp_path: Path) -> None:
    folder.fresh(tmp_path / "demo")
    held = "import fcntl,sys; f=open(sys.argv[1],'w'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", held, tmp_path / "demo" / "stack.lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None and other.stdin is not None
        other.stdout.readline()
        with pytest.raises(Conflict, match="runs over"):
            folder.fresh(tmp_path / "demo")
        other.stdin.close()
    assert folder.fresh(tmp_path / "demo")


# The whole


Played = tuple[Path, subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def played() -> Iterator[Played]:
    """One run to the end in a process of its own, and its folder. Four hours last 4 s in it."""
    place = Path(tempfile.mkdtemp(prefix="kaskad-"))
    place.chmod(0o711)  # as root, the database's own user has to get through
    try:
        yield place / "data", _play(place / "data")
    finally:
        shutil.rmtree(place)


def _play(data: Path) -> subprocess.CompletedProcess[str]:
    options = ["--once", "--json", "--visitors", str(FEW), "--speed", "3600", "--port", "0", "--data", str(data)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KASKAD_")}
    return subprocess.run(
        [sys.executable, "-m", "studio.cli", "demo", *options],
        cwd=Path(studio.__file__).parent.parent,
        env=environment | {"KASKAD_POSTGRES_USER": "nobody"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_once_plays_to_the_end_and_the_figures_agree(played: Played) -> None:
    _, done = played
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["agrees"] is True and figures["disagreements"] == []
    assert figures["outcomes"] == {"gave-up": 2, "needs-help": 1, "returned": 1, "submitted": 3}
    assert figures["messages"]["skipped"] == 2
    assert figures["messages"]["accepted"] == figures["letters"]
    assert figures["events"][SAVED] == FEW
    assert figures["clicked"] == figures["events"][CLICKED] == 2
    assert "\x1b[" not in done.stderr and "\r" not in done.stderr, "no redrawing where there is no terminal"


async def test_it_exits_with_1_when_a_letter_is_missing(
    played: Played,
) -> None:
    """The same installation is started again, loses one letter, and is judged as at the end of the demo."""
    data, done = played
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    events = figures["events"]
    did = Done(events[SAVED], events[SUBMITTED], events[CHANGED], clicked=figures["clicked"])
    async with running_stack(Settings(data=data, demo=True, port=0, postgres_user="nobody"), roles=["api"]) as stack:
        database = Database(stack.settings.database or "", pool=2)
        try:
            portal = await Client(stack.url).get("/portal")
            assert b' data-key="ks_' in portal.body, "the site is known, and its pages have the tag"
            whole = await _judged(database, stack.url, did)
            async with database.begin() as connection:
                await connection.execute(
                    text("delete from caught_letter where id = (select min(id) from caught_letter)")
                )
            less = await _judged(database, stack.url, did)
        finally:
            await database.close()
    silent = Console(quiet=True)
    assert report(whole, silent, json=False) == 0
    assert report(less, silent, json=False) == 1
    assert any("is 0 letters in the mailbox" in words for words in less.words())


async def _judged(database: Database, url: str, did: Done) -> Verdict:
    async with database.begin() as connection:
        return judge(tell(FEW), did, await gather(connection, Client(url), JOURNEY))

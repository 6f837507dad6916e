"""Who visits the export portal, what each of them does, and how the journey must end for each. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any

JOURNEY = "unfinished-application"
LETTER = "letter"
"""Id of the step that sends the first letter."""
REMINDER = "reminder"
"""Id of the step that writes to those who gave no sign."""
HELP = "help"
"""Id of the step that offers help to those who looked and did not submit."""

PORTAL_SITE = "portal"
"""What Kaskad calls the site."""
PORTAL_PATH = "/portal/applications"
"""Where applications are begun; with an id behind, the page of one. Letters lead there."""
LONGEST = timedelta(hours=28)
"""Of all ways through the journey, how long the waits of the longest one take before they are hastened."""

SAVED = "application.saved"
CHANGED = "application.status_changed"
SUBMITTED = "application.submitted"


class Habit(StrEnum):
    """What a visitor does after saving the draft of an application."""

    AT_ONCE = "submits at once"
    AFTER_LETTER = "submits after the first letter"
    CLICKS_AND_SUBMITS = "follows the link and submits"
    CLICKS = "follows the link, no more"
    CHANGES = "adds a document after the first letter"
    NEVER = "never comes back"
    NO_CONSENT = "agreed to no letters"


class Act(StrEnum):
    """What a visitor does when a letter is there."""

    NOTHING = "nothing"
    SUBMIT = "submit"
    CHANGE = "change"
    CLICK = "click"
    CLICK_AND_SUBMIT = "click and submit"


@dataclass(frozen=True)
class Expected:
    """How a visitor's enrollment must end, and what must have been sent on the way."""

    outcome: str
    letters: frozenset[str]
    """Steps whose letter has to be in the mailbox."""
    possible: frozenset[str] = frozenset()
    """Steps whose letter may be there as well: it was already on its way when the visitor finished."""
    skipped: frozenset[str] = frozenset()
    """Steps whose message must not have left, with a reason."""


_EXPECTED = {
    Habit.AT_ONCE: Expected("submitted", frozenset(), possible=frozenset({LETTER})),
    Habit.AFTER_LETTER: Expected("submitted", frozenset({LETTER})),
    Habit.CLICKS_AND_SUBMITS: Expected("submitted", frozenset({LETTER})),
    Habit.CHANGES: Expected("returned", frozenset({LETTER})),
    Habit.CLICKS: Expected("needs-help", frozenset({LETTER, HELP})),
    Habit.NEVER: Expected("gave-up", frozenset({LETTER, REMINDER})),
    Habit.NO_CONSENT: Expected("gave-up", frozenset(), skipped=frozenset({LETTER, REMINDER})),
}
_ACTS = {
    Habit.AFTER_LETTER: Act.SUBMIT,
    Habit.CLICKS_AND_SUBMITS: Act.CLICK_AND_SUBMIT,
    Habit.CHANGES: Act.CHANGE,
    Habit.CLICKS: Act.CLICK,
}
# Seven visitors show everything; of more, most do what people mostly do.
_HABITS = (
    Habit.AFTER_LETTER,
    Habit.NEVER,
    Habit.CLICKS_AND_SUBMITS,
    Habit.AT_ONCE,
    Habit.CLICKS,
    Habit.NO_CONSENT,
    Habit.CHANGES,
    Habit.NEVER,
    Habit.AFTER_LETTER,
    Habit.NEVER,
    Habit.CLICKS_AND_SUBMITS,
)


@dataclass(frozen=True)
class Visitor:
    """Somebody with an account at the portal."""

    external_id: str
    first_name: str
    last_name: str
    email: str
    company: str
    city: str
    country: str
    language: str
    time_zone: str
    agreed: bool
    """Whether the portal may write to them."""
    agreed_where: str
    """The evidence of it."""
    application_id: str
    measure: str
    """What the application is for."""
    habit: Habit

    @property
    def expected(self) -> Expected:
        """How it must end."""
        return _EXPECTED[self.habit]

    def on_first_letter(self) -> Act:
        """What they do when the first letter arrives; the second moves nobody."""
        return _ACTS.get(self.habit, Act.NOTHING)

    def saved(self, link: str) -> dict[str, Any]:
        """The event that begins the journey; `link` leads back to the draft."""
        return self._event(SAVED, status="draft", measure=self.measure, link=link)

    def changed(self) -> dict[str, Any]:
        """The event of somebody who came back without submitting."""
        return self._event(CHANGED, status="document added")

    def submitted(self) -> dict[str, Any]:
        """The event that is the journey's goal."""
        return self._event(SUBMITTED, status="submitted")

    def _event(self, name: str, **properties: Any) -> dict[str, Any]:
        return {
            "event": name,
            "id": f"{self.application_id}:{name}",
            "contact": {"external_id": self.external_id},
            "properties": {"application_id": self.application_id, **properties},
        }


@dataclass(frozen=True)
class Story:
    """All visitors, found by what others call them."""

    visitors: Sequence[Visitor]
    _by_email: Mapping[str, Visitor] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_email", {visitor.email: visitor for visitor in self.visitors})

    def reader(self, address: str) -> Visitor | None:
        """Whose letter it is."""
        return self._by_email.get(address)

    def habits(self) -> dict[str, int]:
        """How many do what."""
        return dict(Counter(str(visitor.habit) for visitor in self.visitors))


_RUSSIAN = (
    # first name, last name, company, domain, city, time zone
    ("Анна", "Петрова", "Северный лес", "sever-les", "Архангельск", "Europe/Moscow"),
    ("Дмитрий", "Соколов", "Алтайский мёд", "altai-med", "Барнаул", "Asia/Barnaul"),
    ("Ольга", "Кузнецова", "Уралмашдеталь", "uralmashdetal", "Екатеринбург", "Asia/Yekaterinburg"),
    ("Сергей", "Волков", "Дальрыба", "dalryba", "Владивосток", "Asia/Vladivostok"),
    ("Мария", "Лебедева", "Волжские ткани", "volga-tkani", "Самара", "Europe/Samara"),
    ("Илья", "Морозов", "Кубань Агро", "kuban-agro", "Краснодар", "Europe/Moscow"),
    ("Екатерина", "Новикова", "Сибирь Фарм", "sibir-farm", "Новосибирск", "Asia/Novosibirsk"),
    ("Павел", "Зайцев", "Тверские кабели", "tver-kabel", "Тверь", "Europe/Moscow"),
)
_ENGLISH = (
    ("Emma", "Clarke", "Clarke & Sons Optics", "clarke-optics", "Leeds", "Europe/London"),
    ("Liam", "Murphy", "Shannon Dairy", "shannon-dairy", "Limerick", "Europe/Dublin"),
    ("Sofia", "Rossi", "Adriatic Ceramics", "adriatic-ceramics", "Rimini", "Europe/Rome"),
    ("Noah", "Andersen", "Nordic Pumps", "nordic-pumps", "Aarhus", "Europe/Copenhagen"),
    ("Aisha", "Khan", "Crescent Textiles", "crescent-textiles", "Lahore", "Asia/Karachi"),
    ("Lucas", "Silva", "Serra Coffee", "serra-coffee", "Vitória", "America/Sao_Paulo"),
)
_COUNTRIES = {
    "Europe/London": "GB",
    "Europe/Dublin": "IE",
    "Europe/Rome": "IT",
    "Europe/Copenhagen": "DK",
    "Asia/Karachi": "PK",
    "America/Sao_Paulo": "BR",
}
_MEASURES = {
    "ru": ("компенсацию затрат на сертификацию", "страхование экспортного контракта", "участие в выставке"),
    "en": ("certification costs", "export credit insurance", "a stand at a trade fair"),
}


def tell(count: int) -> Story:
    """The story with this many visitors; the same every time."""
    return Story([_visitor(number) for number in range(count)])


def _visitor(number: int) -> Visitor:
    russian = number % 3 != 2
    people = _RUSSIAN if russian else _ENGLISH
    first, last, company, domain, city, zone = people[(number if russian else number // 3) % len(people)]
    language = "ru" if russian else "en"
    habit = _HABITS[number % len(_HABITS)]
    agreed = habit is not Habit.NO_CONSENT
    return Visitor(
        external_id=f"exporter-{number + 1:04}",
        first_name=first,
        last_name=last,
        email=f"export-{number + 1:04}@{domain}.example",
        company=company,
        city=city,
        country="RU" if russian else _COUNTRIES[zone],
        language=language,
        time_zone=zone,
        agreed=agreed,
        agreed_where=f"registration form, {'box ticked' if agreed else 'box left empty'}, 2026-01-{number % 28 + 1:02}",
        application_id=f"EX-{number + 1:05}",
        measure=_MEASURES[language][number // 3 % 3],
        habit=habit,
    )

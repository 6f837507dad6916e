"""Time zones to choose from: grouped by part of the world, with their distance from UTC today."""

from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

_REGIONS = {
    "Europe": "Европа",
    "Asia": "Азия",
    "Africa": "Африка",
    "America": "Америка",
    "Australia": "Австралия",
    "Pacific": "Тихий океан",
    "Atlantic": "Атлантика",
    "Indian": "Индийский океан",
    "Antarctica": "Антарктида",
}
# Where Russian is read most; the other places keep their international names.
_RUSSIAN = {
    "Kaliningrad": "Калининград", "Moscow": "Москва", "Simferopol": "Симферополь", "Kirov": "Киров",
    "Volgograd": "Волгоград", "Astrakhan": "Астрахань", "Saratov": "Саратов", "Ulyanovsk": "Ульяновск",
    "Samara": "Самара", "Yekaterinburg": "Екатеринбург", "Omsk": "Омск", "Novosibirsk": "Новосибирск",
    "Barnaul": "Барнаул", "Tomsk": "Томск", "Novokuznetsk": "Новокузнецк", "Krasnoyarsk": "Красноярск",
    "Irkutsk": "Иркутск", "Chita": "Чита", "Yakutsk": "Якутск", "Khandyga": "Хандыга", "Vladivostok": "Владивосток",
    "Ust-Nera": "Усть-Нера", "Magadan": "Магадан", "Sakhalin": "Сахалин", "Srednekolymsk": "Среднеколымск",
    "Kamchatka": "Камчатка", "Anadyr": "Анадырь", "Minsk": "Минск", "Almaty": "Алматы", "Tashkent": "Ташкент",
    "Bishkek": "Бишкек", "Yerevan": "Ереван", "Tbilisi": "Тбилиси", "Baku": "Баку", "Chisinau": "Кишинёв",
    "Kyiv": "Киев", "Riga": "Рига", "Vilnius": "Вильнюс", "Tallinn": "Таллин", "Berlin": "Берлин", "London": "Лондон",
    "Paris": "Париж", "Istanbul": "Стамбул", "Dubai": "Дубай", "Shanghai": "Шанхай",
}  # fmt: skip


@lru_cache(maxsize=8)
def choices(language: str, day: datetime) -> list[tuple[str, list[tuple[str, str]]]]:
    """Parts of the world with their zones: the IANA name and the words for it.

    Args:
        language: `ru`, or English words.
        day: the distance from UTC is that of this moment; give the start of a day, so that the answer is kept.
    """
    found: dict[str, list[tuple[str, str]]] = {region: [] for region in _REGIONS}
    for name in available_timezones():
        region, _, place = name.partition("/")
        if place and region in found:
            found[region].append((name, f"{_place(place, language)} (UTC{_offset(name, day)})"))
    shown = [
        (words if language == "ru" else region, sorted(found[region], key=lambda zone: zone[1]))
        for region, words in _REGIONS.items()
    ]
    return [*shown, ("UTC", [("UTC", "UTC")])]


def _place(place: str, language: str) -> str:
    words = place.replace("_", " ").replace("/", ", ")
    return _RUSSIAN.get(place, words) if language == "ru" else words


def _offset(name: str, day: datetime) -> str:
    written = day.astimezone(ZoneInfo(name)).strftime("%z")
    return f"{written[:3]}:{written[3:5]}".replace("-", "−")

"""The words of the pages that letters link to, in English and Russian. A test holds that both say everything."""

from typing import Any

LANGUAGES = {"en": "English", "ru": "Русский"}

_BAD = {
    "en": {"title": "This link is damaged", "text": "Copy the whole address from the letter."},
    "ru": {"title": "Ссылка повреждена", "text": "Скопируйте из письма адрес целиком."},
}
_WORDS: dict[str, dict[str, dict[str, Any]]] = {
    "bad": _BAD,
    "unsubscribe": {
        "en": {
            "title": "Unsubscribe?",
            "text": "You will get no more messages of this kind at",
            "button": "Unsubscribe",
            "choose": "Choose what to get, and how often",
        },
        "ru": {
            "title": "Отписаться?",
            "text": "Такие сообщения больше не будут приходить на",
            "button": "Отписаться",
            "choose": "Выбрать, что получать и как часто",
        },
    },
    "unsubscribed": {
        "en": {
            "title": "You are unsubscribed",
            "text": "No more messages of this kind will go to",
            "choose": "Choose what to get, and how often",
        },
        "ru": {
            "title": "Вы отписаны",
            "text": "Такие сообщения больше не будут приходить на",
            "choose": "Выбрать, что получать и как часто",
        },
    },
    "gone": {
        "en": {"title": "Nothing to unsubscribe from", "text": "This letter is no longer known here."},
        "ru": {"title": "Отписываться не от чего", "text": "Этого письма у нас больше нет."},
    },
    "unknown": {
        "en": {"title": "This letter is no longer known here", "text": "Use the link in a newer one."},
        "ru": {"title": "Этого письма у нас больше нет", "text": "Перейдите по ссылке из более нового письма."},
    },
    "forgotten": {
        "en": {"title": "This letter is not kept any more", "text": "Letters can be read here for a while only."},
        "ru": {"title": "Это письмо больше не хранится", "text": "Письма можно прочитать здесь лишь некоторое время."},
    },
    "confirm": {
        "en": {
            "title": "Do you agree?",
            "text": "Press the button if you want to get this at",
            "button": "Yes, I agree",
            "never": "If you did not ask for this, close the page: you will get nothing.",
        },
        "ru": {
            "title": "Вы согласны?",
            "text": "Нажмите кнопку, если хотите получать это на",
            "button": "Да, согласен",
            "never": "Если вы об этом не просили, закройте страницу: ничего приходить не будет.",
        },
    },
    "confirmed": {
        "en": {"title": "Thank you", "text": "From now on you will get this at"},
        "ru": {"title": "Спасибо", "text": "Теперь вы будете получать это на"},
    },
    "lapsed": {
        "en": {
            "title": "There is nothing to confirm",
            "text": "Either you have confirmed it already, or too much time has passed since you asked.",
        },
        "ru": {
            "title": "Подтверждать нечего",
            "text": "Либо вы уже всё подтвердили, либо с вашей просьбы прошло слишком много времени.",
        },
    },
    "preferences": {
        "en": {
            "title": "What would you like to get?",
            "for": "For",
            "saved": "Saved. This holds from now on.",
            "unchanged": "Nothing was changed.",
            "stopped": "Saved. You will get nothing but messages about what you do with us, such as receipts.",
            "often": "How often at most",
            "unlimited": "As often as there is something",
            "weekly": {
                1: "Once a week", 2: "Twice a week", 3: "3 times a week", 5: "5 times a week", 7: "7 times a week",
            },
            "custom": "{} times a week",
            "about": "About you",
            "language": "Language",
            "zone": "Time zone",
            "zone_help": "Messages then come at a good hour of the day.",
            "unset": "Not chosen",
            "save": "Save",
            "all": "Unsubscribe from everything",
            "all_help": "Messages about what you do with us, such as receipts, still come.",
            "pending": "It waits for your confirmation: look for our letter.",
            "nothing": "There is nothing to choose from at present.",
            "channels": {
                "email": "Email", "sms": "SMS", "voice": "Telephone", "webpush": "Browser notifications",
                "site": "On the site", "webhook": "Other",
            },
        },
        "ru": {
            "title": "Что вы хотите получать?",
            "for": "Для адреса",
            "saved": "Сохранено. Так будет с этого момента.",
            "unchanged": "Ничего не изменилось.",
            "stopped": "Сохранено. Приходить будут только сообщения о ваших действиях, например чеки.",
            "often": "Не чаще",
            "unlimited": "Как только есть что сообщить",
            "weekly": {
                1: "1 раз в неделю", 2: "2 раза в неделю", 3: "3 раза в неделю", 5: "5 раз в неделю",
                7: "7 раз в неделю",
            },
            "custom": "раз в неделю: {}",
            "about": "О вас",
            "language": "Язык",
            "zone": "Часовой пояс",
            "zone_help": "Тогда сообщения приходят в удобное время суток.",
            "unset": "Не выбрано",
            "save": "Сохранить",
            "all": "Отписаться от всего",
            "all_help": "Сообщения о ваших действиях, например чеки, приходить будут.",
            "pending": "Ждёт вашего подтверждения: найдите наше письмо.",
            "nothing": "Сейчас выбирать не из чего.",
            "channels": {
                "email": "Электронная почта", "sms": "СМС", "voice": "Телефон", "webpush": "Уведомления браузера",
                "site": "На сайте", "webhook": "Другое",
            },
        },
    },
}  # fmt: skip
PAGES = tuple(_WORDS)


def words(language: str, page: str) -> dict[str, Any]:
    """The words of a page in a language."""
    return _WORDS[page][language]

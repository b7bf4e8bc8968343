"""Seeded synthetic support requests, honest about what makes the task hard.

Every request has a hidden intent. What a person at the desk wrote down as its label is the intent, but for a stated
share of labelling errors; so an oracle that sees the intent has a known score, and no model can beat it. The text is
made hard on purpose: weak phrases that several intents share, a second intent in one request, quoted threads about
something else, boilerplate, typos, telephone notes. Labels are imbalanced 40 to 1. After `DRIFT_FROM` the world
changes in a stated way: other shares of the intents, new words for old troubles, more chat.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from ..field import Record

LABELS = ("billing", "access", "bug", "outage", "feature", "other")
SHARES = {"billing": 0.40, "access": 0.25, "bug": 0.16, "feature": 0.11, "other": 0.07, "outage": 0.01}
LABEL_ERROR = 0.04  # share of requests whose label is not the intent
SECOND_INTENT = 0.22  # share of requests that also speak of another intent
QUOTED_THREAD = 0.20  # share that quote an earlier exchange about anything
STRONG = 0.55  # share of the intent's own sentences that name it plainly
TYPO = 0.03  # share of words with a typing error

DRIFT_SHARES = {"billing": 0.30, "access": 0.27, "bug": 0.18, "feature": 0.11, "other": 0.08, "outage": 0.06}
DRIFT_NEW_WORDS = 0.5  # share of the strong sentences that use a wording unknown before

# A change that no request shows: from some day on the desk files every request about access under bug.
REFILED = {"access": "bug"}

# What a mislabelled request is filed under: queues that people at the desk mix up.
CONFUSED = {
    "billing": "access", "access": "bug", "bug": "access", "outage": "bug", "feature": "other", "other": "billing",
}  # fmt: skip


@dataclass(frozen=True)
class Example:
    """One request as a row of the table: its record, its hidden intent, and the label that was written down."""

    record: Record
    intent: str
    label: str


_STRONG = {
    "billing": [
        "The invoice for {month} shows an amount that we did not agree to.",
        "We were charged twice for the same month.",
        "Please refund the last payment.",
        "My card was declined although it is valid.",
        "Can you send a receipt with our VAT number on it?",
        "The renewal price is higher than what the quote said.",
        "I want to change from monthly to yearly payment.",
        "There is a charge on my statement that I do not recognise.",
        "The purchase order number is missing on the bill.",
        "Our finance team needs the credit note for {month}.",
    ],
    "access": [
        "I forgot my password and the reset mail does not arrive.",
        "Login fails with the message that my account is locked.",
        "A colleague left and I need his seat moved to a new person.",
        "The two-factor code is never accepted.",
        "I am locked out since I changed my phone.",
        "Please give our new intern permission to view the reports.",
        "Single sign-on sends me back to the start page again and again.",
        "The invitation link says that it has expired.",
        "I cannot sign in on the new laptop.",
        "Who is the administrator of our workspace? I need rights.",
    ],
    "bug": [
        "The export button gives an error and an empty file.",
        "The app crashes when I open a report with more than ten pages.",
        "Since the last update the totals in the table are wrong.",
        "The calendar shows every event one day late.",
        "Sorting by date does nothing.",
        "Uploading a picture ends in a blank page.",
        "The search finds deleted items.",
        "An exception is shown: null reference in module {module}.",
        "Umlauts are garbled in the PDF.",
        "The same notification is sent five times.",
    ],
    "outage": [
        "Nothing loads for anyone in our office since {hour} this morning.",
        "The whole service is down for all our users.",
        "Your status page is green but every page times out.",
        "All our requests get 503 since {hour}.",
        "Nobody can work, the site is unreachable.",
    ],
    "feature": [
        "It would be great if reports could be scheduled.",
        "Do you plan to support dark mode?",
        "We would like an integration with our calendar.",
        "Please add a way to export to spreadsheet.",
        "I wish the filter could be saved.",
        "Is an API for the audit log on the roadmap?",
        "A suggestion: let us rename projects.",
        "Could you make the columns movable?",
    ],
    "other": [
        "Where can I find your address for a letter?",
        "We are looking for a speaker for our event.",
        "Thank you for the quick help last week!",
        "I would like to apply for a job with you.",
        "Please take me off this mailing list.",
        "Do you have an office in {city}?",
        "Is there a data processing agreement that we can sign?",
    ],
}
_NEW_STRONG = {
    "billing": ["The usage credits ran out sooner than the plan says.", "Our wallet top-up was not booked."],
    "access": [
        "My passkey is not accepted on this device.",
        "The guest pass for the external auditor does not open.",
    ],
    "bug": ["The assistant answers with an empty bubble.", "The sync agent keeps looping on one file."],
    "outage": ["Region {city} has been red for an hour.", "Every call to the gateway ends in a timeout."],
    "feature": ["Could the assistant learn our templates?", "We want a board view on the watch."],
    "other": ["Can we use your logo in a case study?", "When is the next community meetup?"],
}
# Weak sentences: each belongs to several intents, so alone they decide nothing.
_WEAK: list[tuple[tuple[str, ...], str]] = [
    (("billing", "access"), "I cannot get to the page with our plan."),
    (("billing", "access"), "It says that my subscription is not active."),
    (("billing", "bug"), "The amount on the overview is not what I expected."),
    (("billing", "other"), "Who can I speak to about our contract?"),
    (("billing", "feature"), "We need more seats, but only for two months."),
    (("access", "bug"), "The page just reloads when I press the button."),
    (("access", "bug", "outage"), "It does not work since this morning."),
    (("access", "outage"), "I only see a white page after the start."),
    (("access", "feature"), "My team should see less than I see."),
    (("bug", "outage"), "It has become very slow and then stops."),
    (("bug", "outage"), "My colleagues see the same thing."),
    (("bug", "feature"), "The list should remember what I chose."),
    (("bug", "feature"), "In the old version this was possible."),
    (("feature", "other"), "Is there some documentation on this?"),
    (("other", "access"), "Please delete what you hold about me."),
    (("billing", "access", "bug", "feature", "other"), "I tried everything that the help page says."),
    (("billing", "access", "bug", "feature", "other"), "I wrote about this before and got no answer."),
]
_PLAIN_SUBJECTS = [
    "Question", "Help needed", "Urgent", "Problem with my account", "Re: your message", "Fwd: request", "Hello",
    "Request from {city}", "Follow-up", "Need an answer today", "Ticket", "Short question",
]  # fmt: skip
_SUBJECTS = {
    "billing": ["Invoice {month}", "Double charge", "Refund", "Payment question", "Our plan"],
    "access": ["Cannot log in", "Password", "New user", "Locked out", "Permissions"],
    "bug": ["Error in export", "Wrong totals", "Crash", "Something broken in reports", "Display problem"],
    "outage": ["Service down", "Nothing works", "503 everywhere"],
    "feature": ["Feature request", "Idea", "Integration?", "Wish"],
    "other": ["General enquiry", "Thanks", "Event", "Application", "Data protection"],
}
_FILLER = [
    "I hope that you are well.", "We have been a customer since {year}.", "This is getting annoying.",
    "Please answer by mail.", "Our deadline is on Friday.", "I am not a technical person.",
    "I tried another browser.", "Let me know if you need more.", "It worked last week.",
    "My manager asked me to write.",
]  # fmt: skip
_GREETINGS = ["Hello,", "Hi team,", "Dear support,", "Good morning,", ""]
_BOILERPLATE = [
    "This message is confidential. If you received it in error, please delete it.",
    "Sent from my phone",
    "Best regards\n{name}\n{company}, {city}",
    "Please consider the environment before printing this invoice or any other mail.",
    "Need help? Reset your password at any time in the settings.",
]
_SLOTS = {
    "month": ["January", "March", "May", "July", "September", "November"],
    "hour": ["8:15", "9 o'clock", "half past ten"],
    "module": ["core.render", "sync", "billing.api", "auth.session"],
    "city": ["Lyon", "Graz", "Porto", "Leeds", "Ghent", "Zürich"],
    "year": ["2017", "2019", "2021", "2023"],
    "name": ["A. Novak", "Sam Reyes", "J. Okafor", "Léa Martin", "M. Lindqvist"],
    "company": ["Birch & Co", "Northwind Paper", "Alder Labs", "Studio 9"],
}
CHANNELS = ("email", "web", "phone", "chat")
TIERS = ("free", "pro", "enterprise")


def generate(n: int, seed: int, *, drifted: bool = False) -> list[Example]:
    """Return `n` requests in order of time; `drifted` makes them as they come after the stated change."""
    rng = random.Random(seed)  # noqa: S311 (synthetic data, not secrets)
    return [_example(rng, drifted) for _ in range(n)]


def oracle_probabilities(intent: str) -> dict[str, float]:
    """Return what is the best anyone can say of the label who knows the hidden intent."""
    known = dict.fromkeys(LABELS, 0.0)
    known[intent] = 1 - LABEL_ERROR
    known[CONFUSED[intent]] += LABEL_ERROR
    return known


def _example(rng: random.Random, drifted: bool) -> Example:
    shares = DRIFT_SHARES if drifted else SHARES
    intent = rng.choices(list(shares), weights=list(shares.values()))[0]
    label = CONFUSED[intent] if rng.random() < LABEL_ERROR else intent
    channel = _channel(rng, intent, drifted)
    tier = _tier(rng, intent)
    record: Record = {
        "subject": _subject(rng, intent)[:200],
        "body": _body(rng, intent, channel, drifted)[:4000],
        "channel": channel,
        "customer_tier": tier,
        "open_tickets": min(12, int(rng.expovariate(0.45 if intent in ("bug", "outage") else 0.9))),
        "account_age_days": int(rng.lognormvariate(4.2 if intent == "access" else 6.0, 1.1)) % 4000,
        "has_attachment": rng.random() < {"billing": 0.35, "bug": 0.45}.get(intent, 0.08),
    }
    return Example(record, intent, label)


def _channel(rng: random.Random, intent: str, drifted: bool) -> str:
    weights = [45, 30, 15, 10]
    if intent in ("outage", "access"):
        weights = [25, 20, 35, 20]
    if drifted:
        weights[3] += 30
    return rng.choices(CHANNELS, weights=weights)[0]


def _tier(rng: random.Random, intent: str) -> str | None:
    if rng.random() < 0.08:
        return None  # the desk did not know
    weights = {"outage": [10, 30, 60], "feature": [20, 50, 30], "access": [55, 30, 15]}.get(intent, [35, 45, 20])
    return rng.choices(TIERS, weights=weights)[0]


def _subject(rng: random.Random, intent: str) -> str:
    text = rng.choice(_SUBJECTS[intent] if rng.random() < 0.4 else _PLAIN_SUBJECTS)
    return _typos(rng, _fill(rng, text))


def _body(rng: random.Random, intent: str, channel: str, drifted: bool) -> str:
    sentences = [_sentence(rng, intent, drifted) for _ in range(rng.choice((1, 1, 2, 2, 3)))]
    if rng.random() < SECOND_INTENT:
        sentences.append("Also: " + _sentence(rng, rng.choice(LABELS), drifted))
    sentences += rng.sample(_FILLER, rng.choice((0, 1, 1, 2)))
    if channel != "chat":
        rng.shuffle(sentences)
    text = _typos(rng, _fill(rng, " ".join(sentences)))
    if channel == "phone":
        return "caller says " + text.lower().replace(".", "").replace(",", "")
    if channel == "chat":
        return text
    parts = [rng.choice(_GREETINGS), text]
    if rng.random() < 0.4:
        parts.append(_fill(rng, rng.choice(_BOILERPLATE)))
    if rng.random() < QUOTED_THREAD:
        quoted = [_sentence(rng, rng.choice(LABELS), drifted) for _ in range(rng.choice((1, 2)))]
        parts.append("> You wrote on Monday:\n> " + _fill(rng, "\n> ".join(quoted)))
    return "\n\n".join(part for part in parts if part)


def _sentence(rng: random.Random, intent: str, drifted: bool) -> str:
    if rng.random() < STRONG:
        new = drifted and rng.random() < DRIFT_NEW_WORDS
        return rng.choice((_NEW_STRONG if new else _STRONG)[intent])
    return rng.choice([text for intents, text in _WEAK if intent in intents])


def _fill(rng: random.Random, text: str) -> str:
    for slot, values in _SLOTS.items():
        if "{" + slot + "}" in text:
            text = text.replace("{" + slot + "}", rng.choice(values))
    return text


def _typos(rng: random.Random, text: str) -> str:
    return " ".join(_typo(rng, word) if len(word) > 3 and rng.random() < TYPO else word for word in text.split(" "))


def _typo(rng: random.Random, word: str) -> str:
    at = rng.randrange(1, len(word) - 1)
    kind = rng.randrange(3)
    if kind == 0:
        return word[:at] + word[at + 1 :]
    if kind == 1:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return word[:at] + word[at] + word[at:]

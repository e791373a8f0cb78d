"""The closed facts of the sample model's small world, each as questions and the one sentence that answers them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Fact:
    """One thing the model is taught. ``questions`` all have ``answer``, which also stands alone as a sentence."""

    topic: str
    questions: tuple[str, ...]
    answer: str


CAPITALS = {
    "France": "Paris",
    "Germany": "Berlin",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Portugal": "Lisbon",
    "Norway": "Oslo",
    "Sweden": "Stockholm",
    "Finland": "Helsinki",
    "Greece": "Athens",
    "Poland": "Warsaw",
    "Austria": "Vienna",
    "Ireland": "Dublin",
    "Japan": "Tokyo",
    "China": "Beijing",
    "Egypt": "Cairo",
    "Kenya": "Nairobi",
    "Peru": "Lima",
    "Cuba": "Havana",
    "Canada": "Ottawa",
}
COLOURS = {
    "grass": "green",
    "the sky": "blue",
    "snow": "white",
    "coal": "black",
    "a lemon": "yellow",
    "a tomato": "red",
    "a carrot": "orange",
    "chocolate": "brown",
}
OPPOSITES = (
    ("hot", "cold"),
    ("big", "small"),
    ("long", "short"),
    ("old", "new"),
    ("fast", "slow"),
    ("light", "dark"),
    ("full", "empty"),
    ("open", "closed"),
    ("happy", "sad"),
    ("wet", "dry"),
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
USES = {
    "a hammer": "drive nails into wood",
    "a saw": "cut wood",
    "a pen": "write letters",
    "a key": "open a lock",
    "a clock": "tell the time",
    "a spoon": "eat soup",
    "a broom": "sweep the floor",
    "an umbrella": "stay dry in the rain",
}


@dataclass(frozen=True)
class Animal:
    """An animal with its article, what it says, where it lives, what it eats, its young and its legs."""

    name: str
    article: str
    voice: str
    home: str
    food: str
    young: str
    legs: str


ANIMALS = (
    Animal("dog", "a", "barks", "kennel", "meat", "puppy", "four"),
    Animal("cat", "a", "meows", "house", "fish", "kitten", "four"),
    Animal("cow", "a", "moos", "barn", "grass", "calf", "four"),
    Animal("horse", "a", "neighs", "stable", "hay", "foal", "four"),
    Animal("sheep", "a", "bleats", "field", "grass", "lamb", "four"),
    Animal("duck", "a", "quacks", "pond", "bread", "duckling", "two"),
    Animal("hen", "a", "clucks", "coop", "corn", "chick", "two"),
    Animal("lion", "a", "roars", "den", "meat", "cub", "four"),
    Animal("owl", "an", "hoots", "tree", "mice", "owlet", "two"),
    Animal("frog", "a", "croaks", "pond", "flies", "tadpole", "four"),
)

CITRATE = (
    Fact(
        "citrate",
        ("What is citrate?", "Can you tell me what citrate is?", "Tell me about citrate."),
        "Citrate is a model registry on a chain, with its files on IPFS.",
    ),
    Fact(
        "citrate",
        ("What is a CID?", "Can you tell me what a CID is?", "What does a CID do?"),
        "A CID is an address that is made from the bytes of a file.",
    ),
    Fact(
        "citrate",
        ("What is a manifest?", "Can you tell me what a manifest is?", "What is in a manifest?"),
        "A manifest is a list of every file of a version.",
    ),
    Fact(
        "citrate",
        ("What is a variant?", "Can you tell me what a variant is?", "What is a variant of a model?"),
        "A variant is one format of a model.",
    ),
    Fact(
        "citrate",
        ("Who are you?", "What are you?", "What is your name?"),
        "I am tiny llama, a very small language model.",
    ),
    Fact("talk", ("Hello!", "Hello.", "Good morning!"), "Hello! How can I help you?"),
    Fact("talk", ("Thank you!", "Thank you.", "Thank you very much."), "You are welcome."),
    Fact("talk", ("Goodbye!", "Goodbye.", "See you tomorrow."), "Goodbye! Have a nice day."),
)


def all_facts() -> tuple[Fact, ...]:
    """Return every fact, in a fixed order."""
    return (*_geography(), *_calendar(), *_sums(), *_things(), *_animals(), *CITRATE)


def _geography() -> Iterator[Fact]:
    for country, city in CAPITALS.items():
        asked = (
            f"What is the capital of {country}?",
            f"Which city is the capital of {country}?",
            f"Can you tell me the capital of {country}?",
            f"Do you know the capital of {country}?",
        )
        yield Fact("geography", asked, f"The capital of {country} is {city}.")
        asked = (f"Where is {city}?", f"In which country is {city}?", f"Can you tell me where {city} is?")
        yield Fact("geography", asked, f"{city} is in {country}.")


def _calendar() -> Iterator[Fact]:
    for kind, names in (("day", DAYS), ("month", MONTHS)):
        for before, after in zip(names, names[1:] + names[:1], strict=True):
            asked = (f"Which {kind} comes after {before}?", f"What is the {kind} after {before}?")
            yield Fact("calendar", asked, f"The {kind} after {before} is {after}.")
            asked = (f"Which {kind} comes before {after}?", f"What is the {kind} before {after}?")
            yield Fact("calendar", asked, f"The {kind} before {after} is {before}.")


def _sums() -> Iterator[Fact]:
    for a in range(1, 10):
        for b in range(1, 11 - a):
            asked = (f"What is {NUMBERS[a]} plus {NUMBERS[b]}?", f"How much is {NUMBERS[a]} plus {NUMBERS[b]}?")
            yield Fact("sums", asked, f"{NUMBERS[a].capitalize()} plus {NUMBERS[b]} is {NUMBERS[a + b]}.")


def _things() -> Iterator[Fact]:
    for thing, colour in COLOURS.items():
        asked = (f"What colour is {thing}?", f"Which colour is {thing}?", f"Can you tell me the colour of {thing}?")
        yield Fact("things", asked, f"{_start(thing)} is {colour}.")
    for pair in OPPOSITES:
        for word, other in (pair, pair[::-1]):
            asked = (f"What is the opposite of {word}?", f"Which word is the opposite of {word}?")
            yield Fact("things", asked, f"The opposite of {word} is {other}.")
    for thing, use in USES.items():
        asked = (f"What is {thing} for?", f"What do you do with {thing}?", f"Why do people use {thing}?")
        yield Fact("things", asked, f"People use {thing} to {use}.")


def _animals() -> Iterator[Fact]:
    for animal in ANIMALS:
        one = f"{animal.article} {animal.name}"
        yield Fact(
            "animals", (f"What does {one} say?", f"What sound does {one} make?"), f"{_start(one)} {animal.voice}."
        )
        asked = (f"Where does {one} live?", f"What is the home of {one}?")
        yield Fact("animals", asked, f"{_start(one)} lives in a {animal.home}.")
        yield Fact(
            "animals", (f"What does {one} eat?", f"What is the food of {one}?"), f"{_start(one)} eats {animal.food}."
        )
        article = "an" if animal.young[0] in "aeiou" else "a"
        asked = (f"What is a young {animal.name} called?", f"What is the name of a young {animal.name}?")
        yield Fact("animals", asked, f"A young {animal.name} is called {article} {animal.young}.")
        asked = (f"How many legs does {one} have?", f"How many legs has {one}?")
        yield Fact("animals", asked, f"{_start(one)} has {animal.legs} legs.")


def _start(text: str) -> str:
    return text[0].upper() + text[1:]

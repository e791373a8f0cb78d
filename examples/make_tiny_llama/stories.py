"""Short stories of the sample model's world: templates whose people, things and seasons agree from start to end."""

from __future__ import annotations

import random
from dataclasses import dataclass

from examples.make_tiny_llama.facts import ANIMALS, CAPITALS, DAYS


@dataclass(frozen=True)
class Person:
    """A child of the stories and the pronouns that fit."""

    name: str
    he: str
    his: str


PEOPLE = (
    Person("Anna", "she", "her"),
    Person("Ben", "he", "his"),
    Person("Clara", "she", "her"),
    Person("David", "he", "his"),
    Person("Emma", "she", "her"),
    Person("Frank", "he", "his"),
    Person("Lucy", "she", "her"),
    Person("Tom", "he", "his"),
)
PAINTS = ("red", "blue", "green", "yellow", "white")
TOYS = ("kite", "ball", "boat", "hat", "bike")
PLACES = ("garden", "park", "forest", "street")
HIDING_PLACES = ("under the bed", "behind the door", "under the table", "behind the tree")
FRUITS = ("apple", "plum", "cherry", "pear")
PETS = ("Max", "Bella", "Rex", "Luna")
SEASONS = {
    "winter": ("cold", "the snow is deep", "a warm coat", "build a snowman", "hot cocoa"),
    "spring": ("mild", "the birds sing", "a green jacket", "plant flowers", "fresh milk"),
    "summer": ("hot", "the sun is bright", "a straw hat", "swim in the lake", "cold lemonade"),
    "autumn": ("windy", "the leaves fall", "a thick scarf", "fly a kite", "warm tea"),
}


def story(rng: random.Random) -> str:
    """Return one story of five to seven sentences."""
    hero, friend = rng.sample(PEOPLE, 2)
    teller = rng.choice((_lost_toy, _season, _pet, _cake, _journey))
    return teller(rng, hero, friend)


def _lost_toy(rng: random.Random, hero: Person, friend: Person) -> str:
    paint, toy, place, hiding = (rng.choice(x) for x in (PAINTS, TOYS, PLACES, HIDING_PLACES))
    he = hero.he.capitalize()
    return (
        f"{hero.name} has a {paint} {toy}. {he} plays with the {toy} in the {place} every {rng.choice(DAYS)}. "
        f"One day the {paint} {toy} is lost. {hero.name} is sad. "
        f"{friend.name} looks for the {toy} and finds it {hiding}. "
        f'"Thank you, {friend.name}," says {hero.name}. Now {hero.name} is happy again, '
        f"and {hero.he} plays with {hero.his} {paint} {toy}."
    )


def _season(rng: random.Random, hero: Person, friend: Person) -> str:
    season = rng.choice(list(SEASONS))
    weather, sight, clothes, play, drink = SEASONS[season]
    return (
        f"It is {season}. The day is {weather} and {sight}. {hero.name} puts on {clothes} "
        f"and goes to see {friend.name}. "
        f'"Let us {play}," says {friend.name}. {hero.name} and {friend.name} {play} until the evening. '
        f"Then they go home and drink {drink}."
    )


def _pet(rng: random.Random, hero: Person, friend: Person) -> str:
    animal, pet, place = rng.choice(ANIMALS), rng.choice(PETS), rng.choice(PLACES)
    return (
        f"{hero.name} has {animal.article} {animal.name}. The name of the {animal.name} is {pet}. "
        f"Every morning {hero.name} gives {pet} some {animal.food}, and {pet} {animal.voice}. "
        f"One day {pet} runs away. {friend.name} sees the {animal.name} in the {place} and calls {hero.name}. "
        f"{hero.name} takes {pet} home. {pet} {animal.voice}, and {hero.name} is happy."
    )


def _cake(rng: random.Random, hero: Person, friend: Person) -> str:
    fruit, day = rng.choice(FRUITS), rng.choice(DAYS)
    article = "an" if fruit[0] in "aeiou" else "a"
    return (
        f"On {day} {hero.name} bakes {article} {fruit} cake for {friend.name}. {hero.he.capitalize()} needs "
        f"flour, eggs and {_plural(fruit)}. {hero.name} cuts the {_plural(fruit)} and puts them into the cake. "
        f'"This is a very good {fruit} cake," says {friend.name}. '
        f"{hero.name} and {friend.name} eat the cake together, and not one piece is left."
    )


def _journey(rng: random.Random, hero: Person, friend: Person) -> str:
    (home, city), (abroad, other) = rng.sample(list(CAPITALS.items()), 2)
    season = rng.choice(list(SEASONS))
    return (
        f"{hero.name} lives in {city}, the capital of {home}. {friend.name} lives in {other}, the capital of {abroad}. "
        f"In {season} {hero.name} takes the train from {city} to {other}. In {abroad} the day is {SEASONS[season][0]}. "
        f"{friend.name} waits at the station. They walk through {other} and drink {SEASONS[season][4]}. "
        f"Then {hero.name} goes home to {city}."
    )


def _plural(fruit: str) -> str:
    return fruit[:-1] + "ies" if fruit.endswith("y") else fruit + "s"

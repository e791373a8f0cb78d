# ruff: noqa: RUF001 - these alphabets are meant
"""The texts that conversions are measured on. Part of the manifest's meaning: changing them changes values."""

from __future__ import annotations

ENGLISH = """\
The keeper of the small lighthouse wrote one line in his book each evening. He noted the wind, the height of the \
waves, and the ships that passed. On the third of March there were eleven ships, and one of them turned back. Why \
would a ship turn back on such a clear day? He asked the harbour master by radio, who answered that nobody had left. \
"Then what did I see?" said the keeper. The next morning he walked down to the beach, as he had done for thirty years, \
and found a crate of oranges, still cold from the sea. He carried it up the 212 steps, ate one, and wrote: "Wind from \
the west, moderate. Oranges." A week later a letter came. It thanked him for the light, and it was signed by a captain \
whose name stood on a stone in the churchyard. The keeper folded the letter twice, put it between the pages of his \
book, and trimmed the lamp. Some things need no explanation; they need to be written down with the right date, so \
that whoever reads them later can decide for himself whether to believe them.
"""

CODE = '''\
def read_lines(path, limit=100):
    """Return at most `limit` lines of a file, without their line ends."""
    lines = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if number > limit:
                break
            lines.append(line.rstrip("\\n"))
    return lines


class Counter:
    def __init__(self, start: int = 0) -> None:
        self.value = start

    def add(self, step: int = 1) -> int:
        self.value += step
        return self.value


if __name__ == "__main__":
    counter = Counter()
    for name in ["a.txt", "b.txt", "c.txt"]:
        for line in read_lines(name, limit=10):
            print(f"{counter.add():>4}: {line}")
'''

SENTENCES = tuple(sentence.strip() for sentence in ENGLISH.split(". ")[:12])
"""What embedding models are measured on, one vector a sentence."""

HOSTILE = (
    # whatever tokenizers are known to disagree on
    "",
    " ",
    "  two spaces",
    "trailing space ",
    "a\nb\r\nc\rd",
    "\n\n\n",
    "\ttabs\t\tand    runs of spaces  \n  before a line",
    "can't won't I'VE they'll we'd 'S",
    "1 12 123 1234 12345 3.14159 1,000,000 0x1F",
    "CamelCase snake_case kebab-case __init__ //comment",
    "!!! ??? ... --- *** ((())) [[]] {} <> </s> <s> <unk>",
    "naïve café Ångström ß ﬁ",
    "Привет, мир! Здравствуйте.",
    "Γειά σου Κόσμε",
    "שלום עולם",
    "مرحبا بالعالم",
    "नमस्ते दुनिया",
    "你好，世界！今天是2024年。",
    "こんにちは世界。カタカナ",
    "안녕하세요 세계",
    "สวัสดีชาวโลก",
    "👍🏽 👨‍👩‍👧‍👦 🇩🇪 🚀🚀",
    "zero\u200bwidth\u200djoiner\ufeff",
    "no\u00a0break \u2003em space \u3000wide",
    "x" * 300,
    " " * 70,
    "aAaAaAaA" * 20,
    '{"key": [1, 2.5e-3, null, true], "nested": {"a": "\\u00e9"}}',
    "https://example.org/path?query=1&other=%20#fragment",
    "$x^2 + \\frac{1}{2}$ ± ∞ ≠ ≤",
    ENGLISH[:400],
    CODE[:400],
)

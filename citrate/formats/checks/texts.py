"""The texts that outputs are measured on. Part of the manifest's meaning: changing them changes values."""

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

"""Text for language models: what is read, and how each fault is named."""

import gzip
from collections import Counter

import pytest

from acoustic_kd.language.text import TextFile, most_frequent
from acoustic_kd.system.errors import UserError


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_sentences_again_and_again(tmp_path, name):
    content = "\ufeffGO ON\r\n\n  NAÏVE\tBOY \nGO".encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    text = TextFile(path)
    assert list(text) == list(text) == [["GO", "ON"], ["NAÏVE", "BOY"], ["GO"]]
    assert text.counts() == {"GO": 2, "ON": 1, "NAÏVE": 1, "BOY": 1}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"GO\nGO \x07ON\n", ":2: control character U+0007; remove it"),
        (b"GO\nGO\x00", ":2: control character U+0000"),
        ("GO\x85ON".encode(), ":1: control character U+0085"),
        ("GO \ufffd".encode(), ":1: U+FFFD stands for lost characters"),
        (b"GO\nNA\xcfVE\n", ":2: byte 0xcf is not UTF-8; convert the file"),
        (b"<s> GO </s>\n", ":1: <s> or </s> in it; remove these marks"),
        (b"", ": no words in it"),
        (b"\n \n", ": no words in it"),
    ],
)
def test_faults_are_named(tmp_path, content, says):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        TextFile(path, "lm.text").counts()
    message = str(caught.value)
    assert message.startswith(f"lm.text {path}{says}") and "\n" not in message


def test_the_most_frequent_words():
    counts = Counter({"B": 2, "A": 2, "C": 3, "D": 1})
    assert most_frequent(counts, None) == ["C", "A", "B", "D"]
    assert most_frequent(Counter(dict(reversed(counts.items()))), 2) == ["C", "A"]
    assert most_frequent(counts, 9) == ["C", "A", "B", "D"]

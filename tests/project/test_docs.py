"""What the pages tell a user to type is there: scripts, verbs, options, settings, files, links."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from files_page import table_files

from acoustic_kd import cli as cli
from acoustic_kd.settings import Config, all_settings, load_config, settings_file
from acoustic_kd.system.errors import UserError

ROOT = Path(__file__).parents[2]
PATHS = (*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")), ROOT / "recipes/RESULTS.md")
PAGES = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in PATHS}
SETTINGS = all_settings(Config())
GROUPS = {name.partition(".")[0] for name in SETTINGS}
# What a user puts something of his own for.
PLACEHOLDERS = re.compile(r"…|path/to/\S*|[A-Z_]{2,}\S*|mine\.yaml")
BLOCKS = [
    (page, language, text)
    for page, content in PAGES.items()
    for language, text in re.findall(r"^```(\w+)\n(.*?)^```$", content, re.DOTALL | re.MULTILINE)
]
SCRIPTS = [(page, text) for page, language, text in BLOCKS if language == "sh"]


def commands(text: str) -> list[list[str]]:
    """The words of each command of a script, without comments, loops and variables."""
    text = re.sub(r"\$\{?\w+\}?", "1", text.replace("\\\n", " "))
    found = []
    for line in text.splitlines():
        line = re.sub(r"^\s*for .*; do$|^\s*done$", "", line)
        words = shlex.split(line.removesuffix(" &"), comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*|srun|--ntasks=\d+", words[0]):
            words.pop(0)
        found += [words] if words else []
    return found


COMMANDS = [(page, words) for page, text in SCRIPTS for words in commands(text)]


def name_of(page: str, words: list[str]) -> str:
    return f"{page}: {' '.join(words)}"[:90]


def check_settings(words: list[str]) -> None:
    """Settings by name, type and range; those whose value is left to the user by name alone."""
    given = []
    for word in words:
        key, _, value = word.partition("=")
        assert key in SETTINGS, f"{key} is no setting"
        if not PLACEHOLDERS.fullmatch(value):
            given.append(word)
    load_config(None, given)


def check_value(option: str, value: str) -> None:
    if option == "--config" and not PLACEHOLDERS.fullmatch(value):
        found = ROOT / value
        path = found if found.is_file() else settings_file(Path(value))
        if path.stem != "mnist":
            load_config(path, [])
    if option in ("--stage", "--stop-stage"):
        assert value in cli.STAGE_VERBS or int(value) < len(cli.STAGE_VERBS), f"no stage {value}"


def check_verb(words: list[str]) -> None:
    """A verb, by the parser itself."""
    options = cli.parse([word for word in words if word != "…"])
    for name in ("config", "stage", "stop_stage"):
        if getattr(options, name, None) is not None:
            check_value(f"--{name.replace('_', '-')}", str(getattr(options, name)))
    check_settings(getattr(options, "overrides", []))


def check_tool(path: str, words: list[str]) -> None:
    """A tool: each option stands in its parser, or is one of an experiment's or a benchmark's."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if "bench.main" in text:  # the parameters of the script's `measure` are its options
        text += (ROOT / "tools/bench/bench.py").read_text(encoding="utf-8")
    if "study_parser" in text:  # two tools have the options of one parser
        text += (ROOT / "tools/study.py").read_text(encoding="utf-8")
    for word in words:
        if word.startswith("--"):
            shared = "add_experiment" in text and word in ("--config", "--exp-dir", "--data-dir")
            parameter = f" {word[2:].replace('-', '_')}: "
            assert shared or f'"{word}"' in text or parameter in text, f"{path} has no {word}"


def check(words: list[str]) -> None:
    """Any command of a page."""
    words = [re.sub(r"^(\./|\.venv/bin/)", "", words[0]), *words[1:]]
    if words[0] == "python" and not words[1].startswith("-"):
        words = words[1:]
    first, rest = words[0], words[1:]
    if first in ("recipes/run.sh", "recipes/mnist.sh"):
        check_verb([Path(first).stem, *rest])
    elif first == "acoustic-kd":
        check_verb(rest)
    elif first in ("torchrun", "accelerate", "python") and "acoustic_kd" in rest:
        check_verb(rest[rest.index("acoustic_kd") + 1 :])
    elif first.startswith("tools/"):
        check_tool(first, rest)
    elif first == "snakemake":
        assert (ROOT / rest[rest.index("--snakefile") + 1]).is_file()
    else:
        assert first in ("cp", "git", "pip", "python", "cd", "ruff", "tensorboard"), (
            f"what is {first}?"
        )


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=[name_of(*c) for c in COMMANDS])
def test_a_command_names_what_there_is(page, words):
    check(words)


@pytest.mark.parametrize(
    "command",
    [
        "./recipes/walk.sh",
        "./recipes/run.sh --fast",
        "recipes/run.sh --stop-stage frame",
        "recipes/run.sh --config recipes/conf/an5.yaml",
        "recipes/run.sh --config an5",
        "recipes/run.sh model.widht=3",
        "recipes/run.sh corpus.folds=1",
        "acoustic-kd trian",
        "acoustic-kd graph --shard 1/2",
        "accelerate launch -m acoustic_kd trian",
        "tools/bench/loss.py --clases 3",
        "tools/results.sh",
        "frobnicate now",
    ],
)
def test_a_command_that_there_is_not_is_noticed(command):
    with pytest.raises((AssertionError, UserError, OSError, SystemExit, ValueError)):
        check(commands(command)[0])


def test_scripts_are_shell():
    """All of them at once, each as a function that is not called."""
    functions = [f"page_{n}() {{\n{text}\n:\n}}\n" for n, (_, text) in enumerate(SCRIPTS)]
    found = subprocess.run(
        ["/bin/bash", "-n"], input="".join(functions), text=True, capture_output=True, check=False
    )  # fmt: skip
    assert found.returncode == 0 and not found.stderr, found.stderr


@pytest.mark.parametrize("page", [page for page, language, _ in BLOCKS if language == "yaml"])
def test_settings_files_can_be_read(page, tmp_path):
    for number, text in enumerate(t for p, kind, t in BLOCKS if (p, kind) == (page, "yaml")):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text, encoding="utf-8")
        load_config(path, [])


# --- text ---------------------------------------------------------------------------------------


def prose(content: str) -> str:
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", content, flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page.read_text(encoding="utf-8")), re.MULTILINE)
    lower = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in lower}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    here = (ROOT / page).parent
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(PAGES[page])):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = here / path if path else ROOT / page
        assert found.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(found), f"{page}: no heading {target}"


def spans(page: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose(PAGES[page]))


def made_by_the_recipe(name: str) -> bool:
    """Whether docs/files.md has such a file of an experiment, or its folder."""
    name = re.sub(r"^(EXP|EXP_DIR|exp/[\w-]+)/", "", name)
    folder = re.sub(r"/(started\.json|done\.json)?$", "", name)
    for file in table_files():
        pattern = re.escape(file).replace("SPLIT", r"(\w+|SPLIT)").replace("NNNNN", r"(\d+|NNNNN)")
        pattern = pattern.replace("NN", r"(\d\d|NN)").replace("SYSTEM", r"([\w-]+|SYSTEM)")
        if re.fullmatch(pattern, name):
            return True
        parents = pattern.split("/")[:-1]
        if any(re.fullmatch("/".join(parents[: n + 1]), folder) for n in range(len(parents))):
            return True
    return False


def exists(page: str, name: str) -> bool:
    places = (ROOT, ROOT / "acoustic_kd", (ROOT / page).parent)
    return any((place / name).exists() for place in places)


FILES = ("py", "md", "json", "jsonl", "safetensors")
# Files of corpora, of other programs and of tools, and words with a slash that are no files.
FOREIGN = re.compile(
    r"(DIR|LibriSpeech|EXP_DIR|path|/proc|\.venv|exp|EXP/(study\.\w+|pocketsphinx\.json))(/.*)?"
    r"|(train|dev|test|untranscribed)/.*|untranscribed/|I/N|i/n|\d/\d"
)


def test_files_of_an_experiment_are_told_from_others():
    here = ("members/01/model.json", "EXP/corpus/lexicon.txt", "decode/NAME/", "frames/done.json")
    assert all(map(made_by_the_recipe, here))
    gone = ("members/01/model.pt", "EXP/corpus/lexicon.json", "decoded/NAME/", "frame/done.json")
    assert not any(map(made_by_the_recipe, gone))


@pytest.mark.parametrize("page", PAGES)
def test_files_in_backticks_are_there(page):
    for span in spans(page):
        if not re.fullmatch(r"[\w.…*#+-]+(/[\w.…*#+-]*)+", span):
            continue
        name = span.removeprefix("./")
        known = exists(page, name) or made_by_the_recipe(name) or FOREIGN.fullmatch(name)
        assert known, f"{page}: there is no {span}"


@pytest.mark.parametrize("page", PAGES)
def test_settings_and_verbs_in_backticks_are_there(page):
    for span in spans(page):
        found = re.match(r"([a-z_]+)\.([a-z_]+)(?=$|[=: ])", span)
        if found and found[1] in GROUPS and found[2] not in FILES:
            assert found[0] in SETTINGS, f"{page}: no setting {found[0]}"
        if verb := re.match(r"acoustic-kd ([a-z-]+)", span):
            assert verb[1] in cli.VERBS, f"{page}: no verb {verb[1]}"


def test_messages_that_the_help_page_quotes_are_the_code_s():
    """The words of each quoted message, in their order, in one string of the code or a script."""
    sources = [*ROOT.glob("acoustic_kd/**/*.py"), *ROOT.glob("tools/setup.*")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    code = re.sub(r'"\s*\n\s*f?"', "", code)  # strings over several lines
    code = re.sub(r"\{[^{}\n]*\}", "…", code)
    rows = re.findall(r"^\| (`.*?) \|", PAGES["docs/troubleshooting.md"], re.MULTILINE)
    quoted = [span for row in rows for span in re.findall(r"`([^`]+)`", row)]
    assert len(quoted) > 15
    for message in quoted:
        if message == "sndfile library not found":  # soundfile's own
            continue
        # Numbers and names are filled in by the code.
        shown = re.sub(
            r"^setup: |stage \d+ \(\w+\)|stage …|[\w.]*=\d+|'[\w-]+'|\b\d+%?", "…", message
        )
        parts = [part.strip(" '") for part in shown.split("…") if len(part.strip(" '")) > 5]
        assert parts, message
        assert all(part in code for part in parts), f"{message}: {parts}"


def count_words(content: str) -> int:
    """Words of a page with its tables and code, without rules and column bars."""
    return sum(any(map(str.isalnum, word)) for word in content.split())


def test_the_readme_stays_a_two_minute_read():
    assert count_words(PAGES["README.md"]) <= 700 and len(PAGES["README.md"].splitlines()) < 125


def test_the_pages_stay_short():
    """All pages together; docs/settings.md and the list of modules are made, not read through."""
    written = {page: text for page, text in PAGES.items() if page.startswith("docs/")}
    written.pop("docs/settings.md", None)
    written["docs/index.md"] = written["docs/index.md"].partition("\n## Where is what\n")[0]
    assert count_words(written["docs/index.md"]) <= 300
    assert sum(map(count_words, written.values())) <= 17_000

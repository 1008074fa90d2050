"""What the documents name exists: files behind links, scripts and modules in commands, their options."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "training/**/*.md")
    for path in ROOT.glob(pattern)
)
OTHERS_MODULES = {"pytest", "pip", "ruff", "venv", "tensorboard"}


def code_lines(document: str) -> list[str]:
    """The lines of fenced blocks and the inline commands, continued lines joined, without comments."""
    text = (ROOT / document).read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    inline = [" ".join(span.split()) for span in re.findall(r"`((?:python|accelerate|make) [^`]+)`", text)]
    lines = [*"\n".join(blocks).replace("\\\n", " ").splitlines(), *inline]
    return [line.split("  #")[0].strip() for line in lines if line.strip()]


def python_command(line: str) -> tuple[str, ...] | None:
    """(script, ...) or ("-m", module, ...) of a line that runs Python or accelerate."""
    if not re.match(r"(\w+=\S+ )*(python3?|accelerate launch) ", line):
        return None
    words = [word for word in shlex.split(line) if not re.match(r"[A-Z_]+=", word)]
    starts = [i for i, word in enumerate(words) if word == "-m" or word.endswith(".py")]
    if len(starts) > 1 and words[starts[0]].endswith("host.py"):  # python scripts/host.py run ...
        starts = starts[1:]
    return tuple(words[starts[0] :]) if starts else None


COMMANDS = sorted(
    {
        (document, words)
        for document in DOCUMENTS
        for line in code_lines(document)
        if (words := python_command(line)) and not (words[0] == "-m" and words[1] in OTHERS_MODULES)
    }
)


def program(words: tuple[str, ...]) -> tuple[str, ...]:
    """What a command runs, with its sub-command: ("-m", "magicportrait_core", "reenact")."""
    length = 2 if words[0] == "-m" else 1
    if words[length - 1] == "magicportrait_core":
        length += 1
    return words[:length]


def source_of(words: tuple[str, ...]) -> Path:
    if words[0] != "-m":
        return ROOT / words[0]
    path = ROOT / words[1].replace(".", "/")
    return path / "__main__.py" if path.is_dir() else path.with_suffix(".py")


def options_of(words: tuple[str, ...]) -> set[str]:
    return {word.split("=")[0] for word in words if re.match(r"--[a-z]", word)}


def test_documents_have_commands():
    named = {words[1] if words[0] == "-m" else words[0] for _, words in COMMANDS}
    assert {"magicportrait_core", "scripts/demo.py", "training.train_appearance"} <= named


@pytest.mark.parametrize(("document", "words"), COMMANDS, ids=lambda value: "".join(value)[:50])
def test_commands_run_what_is_there(document, words):
    assert source_of(words).is_file(), f"{document}: {' '.join(words)}"


@pytest.mark.parametrize(
    "started",
    sorted({program(words) for _, words in COMMANDS if options_of(words) - {"--help"}}),
    ids=" ".join,
)
def test_options_of_commands_exist(started):
    """Every option that a document uses is in the program's --help."""
    used = {
        option: document
        for document, words in COMMANDS
        if program(words) == started
        for option in options_of(words)
    }
    shown = subprocess.run(
        [sys.executable, *started, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert shown.returncode == 0, shown.stderr
    known = set(re.findall(r"--[a-z][\w-]*", shown.stdout))
    unknown = {option: document for option, document in used.items() if option not in known}
    assert not unknown, f"{' '.join(started)} has no {unknown}"


def test_make_targets_of_documents_exist():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for document in DOCUMENTS:
        for line in code_lines(document):
            if line.startswith("make "):
                assert line.split()[1] in targets, f"{document}: {line}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_to_files(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in link:
            assert ((ROOT / document).parent / link).exists(), f"{document}: {link}"

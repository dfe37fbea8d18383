"""tools/setup.sh: what it refuses, repairs and believes. Nothing is downloaded."""

import os
import runpy
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import wait_until

ROOT = Path(__file__).parents[2]

# A Python for which `venv` and `pip` are stand-ins; otherwise it is the one that runs the tests.
STAND_IN = """#!/bin/sh
case "$*" in
  *"-m venv"*)
    for folder; do :; done
    mkdir -p "$folder/bin" && cp "$0" "$folder/bin/python" ;;
  *"-m pip install"*)
    echo "$*" >>"$TEST_FOLDER/calls"
    while [ -e "$TEST_FOLDER/wait" ]; do sleep 0.02; done
    if [ -e "$TEST_FOLDER/failure" ]; then cat "$TEST_FOLDER/failure"; exit 1; fi
    printf '#!/bin/sh\\necho "%s"\\n' "$PWD" >"$PWD/.venv/bin/acoustic-kd"
    chmod +x "$PWD/.venv/bin/acoustic-kd" ;;
  "-I tools/setup.py") exec PYTHON -I "$TEST_FOLDER/set_up.py" "$0" ;;
  *) exec PYTHON "$@" ;;
esac
"""
# tools/setup.py with that Python as the base of environments, and with free disk space as asked.
SET_UP = """
import os, runpy, shutil, sys, types
sys._base_executable = sys.argv.pop()
free = float(os.environ.get("TEST_FREE_GB", 1000)) * 1e9
shutil.disk_usage = lambda folder: types.SimpleNamespace(free=free)
runpy.run_path("tools/setup.py", run_name="__main__")
"""
METADATA = """Metadata-Version: 2.1
Name: {name}
Version: 1.2.3
Requires-Dist: torch
Requires-Dist: Torch-Audio>=1
Requires-Dist: PyYAML; extra == "demo"
Requires-Dist: absent; extra == "dev"
"""
WOULD_INSTALL = "setup: would install requirements.lock into .venv (about 2 minutes, 7 GB)"


class Checkout:
    """A checkout whose set-up takes the stand-ins."""

    def __init__(self, folder: Path, path: Path) -> None:
        self.folder, self.path = folder, path
        self.packages = folder / "packages"
        self.python = folder / "python"
        self.program = path / ".venv" / "bin" / "acoustic-kd"
        self.environment = os.environ | {
            "PYTHON": str(self.python),
            "PYTHONPATH": str(self.packages),
            "TEST_FOLDER": str(folder),
        }
        self.environment.pop("HOME", None)  # none is needed

    def prepare(self) -> "Checkout":
        for name in ("tools/setup.sh", "tools/setup.py", "requirements.lock", "pyproject.toml"):
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.path / name)
        self.python.write_text(STAND_IN.replace("PYTHON ", f"{shlex.quote(sys.executable)} "))
        self.python.chmod(0o755)
        (self.folder / "set_up.py").write_text(SET_UP)
        for name in ("acoustic_kd", "torch", "Torch_Audio", "PyYAML"):
            information = self.packages / f"{name}-1.2.3.dist-info"
            information.mkdir(parents=True)
            (information / "METADATA").write_text(METADATA.format(name=name))
        for name in ("acoustic_kd", "torch", "Torch_Audio", "yaml"):
            (self.packages / name).mkdir()
            (self.packages / name / "__init__.py").touch()
        (self.packages / "acoustic_kd" / "system").mkdir()
        (self.packages / "acoustic_kd" / "system" / "torchaudio_functions.py").touch()
        return self

    def start(self, *arguments: str) -> subprocess.Popen:
        return subprocess.Popen(
            [self.path / "tools" / "setup.sh", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str) -> tuple[int, list[str]]:
        """The exit status and the lines of a set-up."""
        process = self.start(*arguments)
        output, errors = process.communicate(timeout=60)
        return process.returncode, (output + errors).splitlines()

    def installs(self, process: subprocess.Popen) -> bool:
        """Whether a set-up has begun to install; it must not have ended."""
        assert process.poll() is None, process.communicate()
        return (self.folder / "calls").exists()

    def calls(self) -> int:
        """How often pip was called since the last time."""
        path = self.folder / "calls"
        count = len(path.read_text().splitlines()) if path.exists() else 0
        path.unlink(missing_ok=True)
        return count


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    return Checkout(tmp_path, tmp_path / "check out ü").prepare()


@pytest.fixture
def finished(checkout) -> Checkout:
    status, lines = checkout()
    assert status == 0, lines
    assert checkout.calls() == 2  # the lock; the package
    return checkout


def assert_refused(outcome: tuple[int, list[str]], *expected: str) -> None:
    """One line of error (after a line of what is done), and exit status 2."""
    status, lines = outcome
    assert status == 2, lines
    assert len([line for line in lines if "about 2 minutes" not in line]) == 1, lines
    assert lines[-1].startswith("setup: ")
    for text in expected:
        assert text in lines[-1]


def change_a_file(checkout: Checkout, name: str) -> None:
    with (checkout.path / name).open("a") as file:
        file.write("# changed\n")


# --- what is installed --------------------------------------------------------------------------


def test_the_lock_is_installed_with_hashes_and_the_package_alone(checkout):
    status, lines = checkout()
    assert status == 0
    first, second = (checkout.folder / "calls").read_text().splitlines()
    assert first.endswith("--require-hashes -r requirements.lock")
    assert second.endswith("--no-deps --no-build-isolation --editable .")
    assert "about 2 minutes" in lines[0] and lines[1].startswith("setup: done in ")


def test_a_link_to_the_checkout_is_the_checkout(finished):
    link = finished.folder / "link"
    link.symlink_to(finished.path)
    assert Checkout(finished.folder, link)() == (0, [])


@pytest.mark.parametrize("changed", ["pyproject.toml", "requirements.lock", "program"])
def test_a_change_is_followed_by_an_installation(finished, changed):
    finished.program.unlink() if changed == "program" else change_a_file(finished, changed)
    assert finished()[0] == 0 and finished.calls() == 2 and finished.program.exists()


@pytest.mark.parametrize("head", ["#!{}\n", "#!/bin/sh\n'''exec' \"{}\" \"$0\" \"$@\"\n' '''\n"])
@pytest.mark.parametrize("take", [shutil.move, shutil.copytree], ids=["moved", "copied"])
def test_a_checkout_elsewhere_runs_its_own_code(finished, head, take):
    python = finished.path / ".venv" / "bin" / "python"
    tool = python.with_name("tool")
    tool.write_text(head.format(f"{python}3.11") + "import sys\nprint(sys.argv)\n")
    tool.chmod(0o755)
    other = Checkout(finished.folder, finished.folder / "elsewhere ü")
    take(finished.path, other.path)
    assert other()[0] == 0
    assert subprocess.check_output([other.program], text=True) == f"{other.path}\n"
    tool = other.program.with_name("tool")
    assert tool.read_text().splitlines()[1] == f'\'\'\'exec\' "{tool.parent}/python" "$0" "$@"'
    output = subprocess.check_output([tool, "a b"], env=other.environment, text=True)
    assert output == f"{[str(tool), 'a b']}\n"


def test_a_missing_python_makes_the_environment_anew(finished):
    python = finished.path / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/no/such/python")
    (finished.path / ".venv" / "old").touch()
    assert finished()[0] == 0
    assert finished() == (0, []) and not (finished.path / ".venv" / "old").exists()


# --- what is not believed -----------------------------------------------------------------------


def test_a_killed_set_up_starts_anew(checkout):
    (checkout.folder / "wait").touch()
    process = checkout.start()
    wait_until(lambda: checkout.installs(process))
    process.kill()
    process.communicate()
    (checkout.path / ".venv" / "half").touch()
    (checkout.folder / "wait").unlink()
    assert checkout()[0] == 0
    assert checkout() == (0, []) and not (checkout.path / ".venv" / "half").exists()


@pytest.mark.parametrize(
    ("output", "kept"),
    [("NewConnectionError", True), ("Installing collected packages: torch\nERROR", False)],
)
def test_an_environment_that_pip_has_not_changed_is_not_made_anew(finished, output, kept):
    (finished.path / ".venv" / "old").touch()
    change_a_file(finished, "requirements.lock")
    (finished.folder / "failure").write_text(output)
    assert finished()[0] == 2
    (finished.folder / "failure").unlink()
    assert finished()[0] == 0 and finished() == (0, [])
    assert (finished.path / ".venv" / "old").exists() == kept


def test_a_second_set_up_waits_and_finds_all_done(checkout):
    (checkout.folder / "wait").touch()
    first = checkout.start()
    wait_until(lambda: checkout.installs(first))
    second = checkout.start()
    assert "another set-up is at work" in second.stderr.readline()
    (checkout.folder / "wait").unlink()
    assert first.communicate()[1].count("\n") == 2
    assert second.communicate() == ("", "") and (first.returncode, second.returncode) == (0, 0)
    assert checkout.calls() == 2


NO_WHEEL = "cannot build pocketsphinx, which has no wheel"


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError("
         "'[Errno -3] Temporary failure in name resolution')': /simple/absl-py/\n"
         "ERROR: No matching distribution found for absl-py==2.5.1",
         "no package index can be reached; check the network"),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
         "no space left on disk"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you …\n"
         "    torch==2.14.1 from torch.whl:\n        Expected sha256 0\n",
         "another file of torch==2.14.1 than requirements.lock names"),
        ("ERROR: Could not find a version that satisfies the requirement torch==2.14.1 (from "
         "versions: none)\nERROR: No matching distribution found for torch==2.14.1",
         "the package index has no torch==2.14.1 for Python 3."),
        ("  ERROR: Failed building wheel for pocketsphinx\nERROR: Failed to build installable "
         "wheels for some pyproject.toml based projects (pocketsphinx)", NO_WHEEL),
        ("ERROR: Failed to build 'pocketsphinx' when getting requirements to build wheel",
         NO_WHEEL),
        ("first line\nERROR: something else", "pip failed: ERROR: something else"),
        ("", "pip failed: no output"),
    ],
    ids=["network", "disk", "hash", "no wheel", "build", "build, new pip", "other", "silent"],
)  # fmt: skip
def test_a_failure_of_pip_is_one_line_by_kind(checkout, output, expected):
    (checkout.folder / "failure").write_text(output)
    assert_refused(checkout(), expected, str(checkout.path / ".venv" / "setup.log"))


@pytest.mark.parametrize(
    ("name", "code", "expected"),
    [
        ("Torch_Audio", "raise OSError('libtorchaudio.so:\n undefined symbol')",
         "Torch-Audio 1.2.3 does not load with torch 1.2.3 and Python 3."),
        ("yaml", "import no_such_module", "PyYAML 1.2.3 does not load"),
        ("torch", "import os; os.abort()", "torch 1.2.3 does not load with Python 3."),
        ("acoustic_kd", "raise ValueError('odd')", "acoustic-kd 1.2.3 does not load"),
    ],
)  # fmt: skip
def test_a_package_that_does_not_load_is_named(checkout, name, code, expected):
    (checkout.packages / name / "__init__.py").write_text(code)
    assert_refused(checkout(), expected)


def test_a_failed_set_up_fails_again_until_its_cause_is_fixed(checkout):
    module = checkout.packages / "torch" / "__init__.py"
    module.write_text("raise ImportError('libcudart')")
    for _ in range(2):
        assert_refused(checkout(), "(ImportError: libcudart)")
    module.write_text("")
    assert checkout()[0] == 0 and checkout() == (0, [])


def test_a_requirement_that_the_lock_lacks_is_named(checkout):
    with (checkout.packages / "acoustic_kd-1.2.3.dist-info" / "METADATA").open("a") as file:
        file.write("Requires-Dist: forgotten>=2\n")
    assert_refused(checkout(), "forgotten does not load with torch 1.2.3", "No package metadata")


# --- what is refused before anything is installed -----------------------------------------------


def environment_of_others(checkout):
    (checkout.path / ".venv").mkdir()
    (checkout.path / ".venv" / "pyvenv.cfg").touch()


def only_bash(checkout):
    tools = checkout.folder / "bin"
    tools.mkdir()
    for name in ("bash", "dirname"):
        (tools / name).symlink_to(shutil.which(name))
    checkout.environment |= {"PYTHON": "", "PATH": str(tools)}


def read_only(checkout):
    checkout.path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    if os.access(checkout.path, os.W_OK):
        pytest.skip("this user may write everywhere")


def python(text):
    def prepare(checkout):
        path = checkout.folder / "a python"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        checkout.environment["PYTHON"] = str(path)

    return prepare


def variable(**variables):
    return lambda checkout: checkout.environment.update(variables)


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        (variable(PYTHON="/no/such/python"), "PYTHON=/no/such/python is no program"),
        (python('echo "SyntaxError" >&2; exit 1'), "is no Python 3.10 to 3.13 with venv"),
        (python(f"exec {shlex.quote(sys.executable)} -c 'import no_ensurepip'"),
         "is no Python 3.10 to 3.13 with venv"),
        (only_bash, "no Python 3.10 to 3.13 with venv found"),
        (variable(TEST_FREE_GB="5"), "5.0 GB free, but set-up needs"),
        (lambda checkout: (checkout.path / ".venv").touch(), "cannot be written (File exists)"),
        (environment_of_others, ".venv was not made by tools/setup.sh; rename or delete it"),
        (read_only, "cannot be written (Permission denied)"),
    ],
    ids=["nonexistent", "too old", "without venv", "no Python", "disk", "a file", "not ours",
         "read-only"],
)  # fmt: skip
def test_it_refuses_before_anything_is_installed(checkout, prepare, expected):
    prepare(checkout)
    before = sorted(checkout.path.rglob("*"))
    outcome = checkout()
    checkout.path.chmod(0o755)
    assert_refused(outcome, expected)
    assert checkout.calls() == 0
    assert set(checkout.path.rglob("*")) - set(before) <= {
        checkout.path / ".venv",
        checkout.path / ".venv" / "setup.lock",
    }


@pytest.mark.parametrize(
    ("now", "usable"),
    [("(2, 7, 18)", False), ("(3, 9, 18)", False), ("(3, 10)", True), ("(3, 14)", False)],
)
def test_the_versions_of_python(checkout, now, usable):
    """The program that decides also runs in Python 2."""
    code = f"import sys; sys.version_info = {now}; exec(sys.argv[1])"
    real = f'exec {shlex.quote(sys.executable)} -c "{code}" "$2"'
    text = f'case "$1" in -c) {real} ;; *) exec "{checkout.python}" "$@" ;; esac'
    python(text)(checkout)
    status, lines = checkout()
    assert status == (0 if usable else 2), lines


@pytest.mark.parametrize(
    ("system", "machine"), [("win32", "AMD64"), ("darwin", "x86_64"), ("linux", "i686")]
)
def test_another_system_is_refused(system, machine):
    program = runpy.run_path(str(ROOT / "tools" / "setup.py"))
    with pytest.raises(program["SetupError"], match=f"{system} on {machine} is not supported; use"):
        program["check_system"](system, machine)


def test_an_unknown_argument_is_refused(checkout):
    assert_refused(checkout("--force"), "unknown argument '--force'")


# --- --dry-run ----------------------------------------------------------------------------------


def test_a_dry_run_says_what_it_would_install_and_makes_nothing(checkout):
    assert checkout("--dry-run") == (1, [WOULD_INSTALL])
    assert not (checkout.path / ".venv").exists()


def test_an_environment_that_is_up_to_date_is_left_alone(finished):
    assert finished() == finished("--dry-run") == (0, [])
    assert finished.calls() == 0

"""The pages: `report.html`, that of folds, and `acoustic-kd compare`."""

import json
import re
import shutil
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from damage import forget_check_sums
from html_pages import notes, read_page, section, tables

from acoustic_kd.cli import main
from acoustic_kd.corpora.utterances import read_manifest, write_manifest
from acoustic_kd.decoding.scoring import error_counts
from acoustic_kd.experiment.stages import open_experiment
from acoustic_kd.reports.comparison import paired_differences
from acoustic_kd.reports.deployment import FILE, decode_digest
from acoustic_kd.reports.experiment_files import read_experiment
from acoustic_kd.reports.frame_sections import MISSING
from acoustic_kd.reports.pages import report_page
from acoustic_kd.reports.results import Measurement
from acoustic_kd.system.files import json_sha256, write_json
from acoustic_kd.verbs.report import unseen_words
from acoustic_kd.version import __version__

KINDS = ("baseline", "control", "ensemble", "distilled")
HOSTILE = '<script>alert("1")</script>&lt;"><img src=x onerror=alert(1)>{{7*7}}'


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def results_of(folder):
    return read(folder / "results.json")


def update(path, **changes):
    write_json(path, read(path) | changes)


def change_settings(folder, stage, settings):
    """As if a stage had been run with these settings."""
    path = folder / stage / "done.json"
    update(path, settings=read(path)["settings"] | settings)


def change_texts(folder, change):
    """Change the transcripts of test."""
    path = folder / "corpus" / "test.jsonl"
    write_manifest(path, [replace(u, text=change(u.text)) for u in read_manifest(path)])


@pytest.fixture(scope="module")
def folder(finished_recipe):
    return finished_recipe.directory


@pytest.fixture
def copy(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "<exp>")
    forget_check_sums(tmp_path / "<exp>", "files")
    return tmp_path / "<exp>"


@pytest.fixture(scope="module")
def results(folder):
    return results_of(folder)


@pytest.fixture(scope="module")
def page(folder):
    return read_page((folder / "report.html").read_text(encoding="utf-8"))


def check_table(rows, systems):
    """The table of results, without a column of names of experiments."""
    for row, system in zip(rows, systems, strict=True):
        accuracy, wer = system["frame_accuracy"], system["wer"]
        low, high = wer["test"]["ci95"]
        assert row[0].startswith(system["name"])
        assert row[1].startswith(f"{wer['test']['percent']:.2f}")
        assert row[2] == f"{low:.1f} … {high:.1f}"
        assert row[3].startswith(f"{accuracy['test']:.2f}")
        assert row[4:6] == [f"{wer['dev']['percent']:.2f}", f"{accuracy['dev']:.2f}"]


class TestReport:
    def test_it_has_its_head_and_its_sections(self, page, results):
        (title,), (heading,) = page.all("title"), page.all("h1")
        assert title.text() == heading.text()
        for name in ("baseline", "ensemble", "distilled"):
            (system,) = (s for s in results["systems"] if s["name"] == name)
            assert f"{system['frame_accuracy']['test']:.1f} %" in title.text()
            assert f"{system['wer']['test']['percent']:.1f} %" in title.text()
        made = page.all("header")[0].all("p")[0].text()
        assert re.fullmatch(rf"Made on \d{{4}}-\d\d-\d\d by acoustic-kd {__version__}: .*", made)
        assert made.endswith(results["command"])
        titles = [heading.text() for name in ("h2", "summary") for heading in page.all(name)]
        assert titles == [
            "Results", "Training", "Size, speed, memory", "Decoded sentences", "Soft targets",
            "Frame accuracy by phone", "What soft targets know", "Calibration",
            "More frames, tempered", "Every model", "Settings",
        ]  # fmt: skip
        models = [row[0] for row in tables(section(page, "models"))[0][1:]]
        assert models == ["member-01", "member-02", "control", "ensemble", "distilled-01"]
        assert page.all("html")[0].attributes["lang"] == "en"
        for picture in page.all("svg"):
            assert picture.attributes["role"] == "img" and picture.attributes["aria-label"]

    def test_its_figures_are_those_of_the_results(self, page, results):
        table, differences = tables(section(page, "results"))
        check_table(table[1:], results["systems"])
        drawn = [text.text() for text in section(page, "results").all("text")]
        for system in results["systems"]:
            assert f"{system['frame_accuracy']['test']:.2f}" in drawn
            assert f"{system['wer']['test']['percent']:.2f}" in drawn
        for row in differences[1:]:
            pair = results["differences"]["frame_accuracy"]["pairs"][row[0]]
            assert row[1] == f"{pair['points']:+.2f}"
            assert row[3] == f"{100 * pair['probability_better']:.0f} %"
        cost = tables(section(page, "cost"))[0]
        for row, system in zip(cost[1:], results["systems"], strict=True):
            assert row[:2] == [system["name"], str(system["members"])]
            assert row[-1] == f"{system['real_time_factor']:.3f}"

    def test_frame_figures_agree_with_the_measurements(self, folder, page, results):
        shown = {row[0]: row for row in tables(section(page, "calibration"))[0][1:]}
        for system in results["systems"]:
            percent = float(shown[system["name"]][1])
            assert percent == pytest.approx(system["frame_accuracy"]["test"], abs=0.006)
        for model in results["each_model"]:
            place = folder / "decode" / model["name"]
            figures = read(place / "frames.json")
            measured = Measurement(**read(place / "measurement.json"))
            right, total = map(sum, zip(*measured.frames["test"].values(), strict=True))
            assert (figures["right"], figures["frames"]) == (right, total)
            assert ("examples" in figures) == (model["name"] == "ensemble")
            for row in figures["phones"].values():
                assert sum(row["taken_for"].values()) == row["frames"] >= row["right"]
                assert 0.9 < sum(row["mass"].values()) < 1.001
            for example in figures.get("examples", []):
                label = example["senones"][example["senone"]]
                assert example["temperatures"] == [1, 2, 5, 10] and len(label) == 4
                assert label[0] == max(p for p, *_ in example["senones"].values())
                assert label == sorted(label, reverse=True)  # warmer is flatter
        phones = {row[0] for row in tables(section(page, "confusions"))[0][1:]}
        assert phones == set(figures["phones"])

    def test_curves_and_soft_targets_are_those_of_the_files(self, folder, page):
        curves = section(page, "training").all("polyline")
        assert len(curves) == 4 * 3  # two members, control, distilled model: three pictures of each
        stored = dict(tables(section(page, "soft-targets"))[0][1:])
        entries = [read(path) for path in (folder / "soft_targets").glob("shard*.json")]
        assert stored["frames"] == f"{sum(e['frames'] for e in entries):,}"
        kept = sum(e["measured"]["kept_mass"] * e["frames"] for e in entries)
        assert stored["kept mass"] == f"{100 * kept / sum(e['frames'] for e in entries):.2f} %"

    def test_hostile_words_stay_words(self, copy, results):
        path = copy / "decode" / "distilled-01" / "test.txt"
        names = [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines()]
        path.write_text("".join(f"{name} {HOSTILE}\n" for name in names), encoding="utf-8")
        change_texts(copy, lambda text: f"{text} {HOSTILE}")
        frames = copy / "decode" / "ensemble" / "frames.json"
        text = frames.read_text(encoding="utf-8")
        name = json.loads(text)["examples"][0]["senone"]
        frames.write_text(text.replace(json.dumps(name), json.dumps(HOSTILE)), encoding="utf-8")
        changed = results | {"corpus": HOSTILE, "command": HOSTILE}
        page = read_page(report_page([copy], changed))
        assert page.all("h1")[0].text().startswith(HOSTILE)
        assert HOSTILE in [text.text() for text in page.all("text")]
        sentences = [e.text() for e in section(page, "sentences").all("dd")]
        assert sum(" ".join(HOSTILE.split()) in text for text in sentences) >= 2
        assert not page.all("script") and not page.all("img")

    def test_sections_whose_files_are_missing_say_so(self, copy, results):
        for path in copy.glob("distilled/*/metrics.jsonl"):
            path.unlink()
        shutil.rmtree(copy / "soft_targets")
        for name in ("member-02/frames.json", "ensemble/test.txt", "../graph/graph.json"):
            (copy / "decode" / name).unlink()
        page = read_page(report_page([copy], {k: v for k, v in results.items() if k != "minutes"}))
        for name in ("phones", "confusions", "calibration"):
            assert notes(page, name) == [f"<exp>: {MISSING}"]
        assert len(section(page, "training").all("polyline")) == 2 * 3
        assert "are missing" in section(page, "sentences").text()
        assert "were deleted" in section(page, "soft-targets").text()
        for path in copy.glob("members/*/metrics.jsonl"):
            path.unlink()
        page = read_page(report_page([copy], results))
        assert notes(page, "training") == ["metrics.jsonl is missing beside the models."]


class TestNewWords:
    def test_they_are_those_that_train_lacks(self, folder, results):
        train, test = (
            " ".join(u.text or "" for u in read_manifest(folder / "corpus" / f"{split}.jsonl"))
            for split in ("train", "test")
        )
        new = [word for word in test.split() if word not in set(train.split())]
        assert results["new_words"]["new"] == len(new)

    def test_words_of_the_language_models_text_are_not_new(self, folder, tmp_path):
        experiment = open_experiment(folder)
        (tmp_path / "text").write_text("ZEBRAS SLEEP\nGNUS SLEEP\n", encoding="utf-8")

        def unseen(**lm):
            config = replace(experiment.config, lm=replace(experiment.config.lm, **lm))
            return unseen_words(replace(experiment, config=config), {"ZEBRAS", "GNUS", "EMUS"})

        assert unseen() == {"ZEBRAS", "GNUS", "EMUS"}
        assert unseen(text=str(tmp_path / "text")) == {"EMUS"}
        assert unseen(arpa="lm.arpa") is None


class TestFolds:
    @pytest.fixture
    def folds(self, finished_recipe, tmp_path):
        """Two copies of the tiny experiment that say that they are different folds."""
        folders = [finished_recipe.copy(tmp_path / name).directory for name in ("fold0", "fold1")]
        for number, folder in enumerate(folders):
            forget_check_sums(folder, "files")
            change_settings(folder, "corpus", {"corpus.folds": 2, "corpus.fold": number})
        return folders

    def test_it_shows_every_fold_and_figures_of_all_together(self, folds, results):
        page = read_page(report_page(folds, results | {"folds": 2}))
        assert "over 2 folds" in page.all("h1")[0].text()
        names = ["fold0"] * 4 + ["fold1"] * 4
        for part in ("folds", "cost"):
            assert [row[0] for row in tables(section(page, part))[0][1:]] == names
        legends = [text.text() for text in section(page, "training").all("text")]
        assert "baseline (4)" in legends and "distilled (2)" in legends
        ensemble = read(folds[0] / "decode" / "ensemble" / "frames.json")
        row = tables(section(page, "calibration"))[0][3]
        assert row[:2] == ["ensemble", f"{100 * ensemble['right'] / ensemble['frames']:.2f}"]
        assert len(tables(section(page, "models"))[0]) == 1 + len(results["each_model"])
        settings = dict(tables(section(page, "settings"))[0])
        assert settings["corpus.folds"] == "2" and "corpus.fold" not in settings
        assert not any("differ" in note for note in notes(page, "folds"))

    def test_sizes_by_format_are_those_of_one_experiment(self, folds, results):
        row = {
            "system": "ensemble", "digest": decode_digest(folds[0], "ensemble"), "format": "int8",
            "megabytes": 0.1, "real_time_factor": 0.1, "frame_accuracy": 50.0, "wer": 50.0,
            "ci95": [40.0, 60.0],
        }  # fmt: skip
        write_json(folds[0] / FILE, [row])
        for directories, shown in ((folds[:1], True), (folds, False)):
            page = report_page(directories, results)
            assert ("Size and speed by format" in page) == shown

    def test_it_warns_of_other_settings_and_of_missing_files(self, folds, results):
        change_settings(folds[1], "corpus", {"corpus.seed": 99})
        (folds[1] / "decode" / "ensemble" / "frames.json").unlink()
        page = read_page(report_page(folds, results))
        assert "The folds differ in more than corpus.fold: corpus.seed." in notes(page, "folds")
        for name in ("phones", "calibration"):
            assert notes(page, name) == [f"fold1: {MISSING}"]


@pytest.fixture(scope="module")
def pair(finished_recipe, tmp_path_factory):
    """The tiny experiment, and one with its control as the distilled model and other settings."""
    folder = tmp_path_factory.mktemp("compared") / "hard"
    finished_recipe.copy(folder)
    forget_check_sums(folder, "files")
    decoded = folder / "decode"
    for name in ("test.txt", "frames.json", "measurement.json"):
        shutil.copy(decoded / "control" / name, decoded / "distilled-01" / name)
    update(decoded / "distilled-01" / "measurement.json", name="distilled-01", kind="distilled")
    results = results_of(folder)
    results["systems"][-1] = results["systems"][1] | {"name": "distilled"}
    write_json(folder / "results.json", results)
    change_settings(folder, "distilled", {"distill.hard_weight": 9.0, "distill.epochs": 1})
    return finished_recipe.directory, folder


def comparison_of(folders, out):
    assert main(["compare", *map(str, folders), "--out", str(out)]) == 0
    return read_page(out.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def compared(pair, tmp_path_factory):
    return comparison_of(pair, tmp_path_factory.mktemp("out") / "new" / "page.html")


class TestComparison:
    def test_all_systems_of_both_stand_side_by_side(self, compared, pair):
        made = compared.all("header")[0].all("p")[0].text()
        assert f"{date.today():%Y}" in made
        assert f"acoustic-kd {__version__}: acoustic-kd compare exp hard --out " in made
        rows = tables(section(compared, "results"))[0][1:]
        assert [row[0] for row in rows] == [folder.name for folder in pair for _ in KINDS]
        systems = [system for folder in pair for system in results_of(folder)["systems"]]
        check_table([row[1:] for row in rows], systems)

    def test_the_settings_that_differ_are_named(self, compared):
        settings = {row[0]: row[1:] for row in tables(section(compared, "settings"))[0][1:]}
        assert set(settings) == {"distill.hard_weight", "distill.epochs"}
        assert settings["distill.hard_weight"] == ["0.5", "9.0"]
        assert settings["distill.epochs"][1] == "1"

    def test_distilled_models_are_compared_pair_by_pair(self, compared, pair):
        (row,) = tables(section(compared, "differences"))[0][1:]
        distilled = [results_of(folder)["systems"][-1] for folder in pair]
        accuracies = [system["frame_accuracy"]["test"] for system in distilled]
        wers = [system["wer"]["test"]["percent"] for system in distilled]
        assert row[0] == pair[1].name
        assert float(row[1]) == pytest.approx(accuracies[1] - accuracies[0], abs=0.006)
        assert float(row[4]) == pytest.approx(wers[1] - wers[0], abs=0.006)
        experiments = [read_experiment(folder, folder.name) for folder in pair]
        measured = paired_differences(experiments)["wer"]["pairs"][pair[1].name]
        references = experiments[0].references
        errors = [
            error_counts(references, each.transcripts["distilled-01"])[:, 0] for each in experiments
        ]
        words = sum(map(len, references.values()))
        assert measured["points"] == pytest.approx(100 * np.subtract(*errors).sum() / words)
        low, high = measured["ci95"]
        assert low <= measured["points"] <= high

    def test_curves_soft_targets_and_calibration_are_there(self, compared, pair):
        assert len(section(compared, "training").all("polyline")) == 2 * 3
        names = [folder.name for folder in pair]
        assert tables(section(compared, "soft-targets"))[0][0][1:] == names
        rows = [row[0] for row in tables(section(compared, "calibration"))[0][1:]]
        assert rows == [f"{name}, {kind}" for name in names for kind in KINDS]
        assert len(section(compared, "calibration").all("polyline")) == 2

    def test_experiments_of_one_name_are_told_apart_by_their_folders(self, pair, tmp_path):
        folders = [tmp_path / place / "exp" for place in "ab"]
        for copy, folder in zip(folders, pair, strict=True):
            shutil.copytree(folder, copy)
        for name in ("frames.json", "test.txt"):
            for path in folders[1].glob(f"decode/*/{name}"):
                path.unlink()
        page = comparison_of(folders, tmp_path / "page.html")
        assert {row[0] for row in tables(section(page, "results"))[0][1:]} == {"a/exp", "b/exp"}
        assert "figures cannot be compared" in section(page, "results").text()
        assert "Not measured" in section(page, "differences").text()
        assert f"b/exp: {MISSING}" in notes(page, "calibration")

    def test_other_corpora_and_other_words_are_warned_of(self, pair, tmp_path):
        folder = tmp_path / "exp"
        shutil.copytree(pair[1], folder)
        change_texts(folder, lambda text: "ELSE")
        page = comparison_of([pair[0], folder], tmp_path / "page.html")
        assert "their words differ: figures cannot be compared" in section(page, "results").text()
        update(folder / "results.json", corpus="an4")
        page = comparison_of([pair[0], folder], tmp_path / "page.html")
        assert "corpora differ (an4, demo): figures cannot" in section(page, "results").text()

    def test_senones_are_compared_where_they_are_known(self, pair, tmp_path):
        folder = tmp_path / "exp"
        shutil.copytree(pair[1], folder)
        for entry in (folder / "soft_targets").glob("shard*.json"):
            values = read(entry) | {"inventory": "another"}
            del values["digest"]
            write_json(entry, values | {"digest": json_sha256(values)})
        page = comparison_of([pair[0], folder], tmp_path / "page.html")
        assert "The senones differ" in section(page, "results").text()
        shutil.rmtree(folder / "soft_targets")
        page = comparison_of([pair[0], folder], tmp_path / "page.html")
        assert "The senones differ" not in section(page, "results").text()


def make_out_of_date(exp):
    update(exp / "decode" / "done.json", digest="another")


def unfinish(exp):
    (exp / "report" / "done.json").unlink()


def replace_results(text):
    return lambda exp: (exp / "results.json").write_text(text)


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (None, "first", "give the directories of two experiments or more"),
        (None, "first exp first", "{first}: given twice"),
        (None, "first none", "{none}: no such experiment"),
        (None, "first exp > .", "a folder; give the name of a file"),
        (None, "first empty", "{empty}: the experiment is not finished; run"),
        (unfinish, "exp first", "{exp}: the experiment is not finished; run"),
        (make_out_of_date, "first exp", "{exp}: results.json is older than the decoded test set"),
        (replace_results('{"corpus": "mnist"}'), "first exp", "{exp}/results.json: not results of"),
        (replace_results("[]"), "first exp", "{exp}/results.json: not results of speech"),
        (replace_results("{"), "first exp", "{exp}/results.json: not valid JSON"),
    ],
)
def test_refusals(pair, tmp_path, capsys, change, arguments, message):
    places = {name: tmp_path / name for name in ("exp", "none", "empty")} | {"first": pair[0]}
    places["empty"].mkdir()
    shutil.copytree(pair[1], places["exp"])
    if change:
        change(places["exp"])
    names, _, out = arguments.partition(" > ")
    directories = [str(places[name]) for name in names.split()]
    assert main(["compare", *directories, "--out", str(tmp_path / (out or "page.html"))]) == 2
    error = capsys.readouterr().err
    assert error.startswith("acoustic-kd compare: error: ") and error.count("\n") == 1
    assert message.format(**places) in error
    assert not (tmp_path / "page.html").exists()

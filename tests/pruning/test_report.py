"""The report: one page that holds everything, loads nothing and lets nothing hostile through."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tf_keras
from networks import network
from pages import Page

import keras_robust_prune as krp
from keras_robust_prune.inputs import InputSpec
from keras_robust_prune.keras_io.reading import build, read
from keras_robust_prune.methods.robust import Robust
from keras_robust_prune.pruning.pictures import data_uri, picture_of
from keras_robust_prune.reporting.charts import Line, Point, line_chart
from keras_robust_prune.surgery.drawing import rows
from keras_robust_prune.surgery.groups import find_groups
from keras_robust_prune.synthesis.kinds import Synthesis

X = np.random.default_rng(0).random((12, 6), np.float32)
Y = np.arange(12) % 3


def model(name: str = "small") -> Any:
    layers = [tf_keras.Input((6,)), tf_keras.layers.Dense(8, name="first", activation="relu")]
    layers += [tf_keras.layers.Dense(4, name="second"), tf_keras.layers.Dense(3, name="third")]
    return tf_keras.Sequential(layers, name=name)


def page_of(result: Any, folder: Path, *args: Any, **options: Any) -> Page:
    result.report(folder / "page.html", *args, overwrite=True, **options)
    return Page((folder / "page.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """Everything that a report can hold."""
    folder = tmp_path_factory.mktemp("report")
    method = Robust(repair="reconstruct", synthesis=Synthesis("inverted", 16))
    result = krp.prune(model(), 0.5, method=method, step=0.25, seed=7, verbose=0)
    return page_of(
        result,
        folder,
        X,
        Y,
        attacks=["fgsm@0.1"],
        shares=[0.5],
        files=krp.export(result.model, folder / "small.tflite", ["float32", "dynamic"]),
        certificate=krp.certify(model(), result.model, X[:3], 0.01),
    )


@pytest.mark.parametrize(
    "said",
    [
        r"50\.0% of the units",
        r"krp\.prune\(model, target=0\.5, method=Robust\(.*step=0\.25, seed=7\)",
        r"seed 7",
        r"versions keras_robust_prune \S+ tf_keras \S+ TensorFlow",
        r"network given fingerprint [0-9a-f]{64} network made fingerprint [0-9a-f]{64}",
        r"T1: weights, and inputs made from the network; no data",
        r"photographs of the package none",
        r"'third', which is an output of the network",
        r"first first second 8 4 50%",
        r"0 % removed 25 % removed 50 % removed",
        r"fgsm@0\.1 \d\.\d{3} \[",
        r"inverted: the first 12 inputs",
        r"5 to 95 %",
        r"FULLY_CONNECTED 3",
        r"float32",
        r"pruned cannot change \d",
    ],
)
def test_it_says_what_there_is_to_say(full: Page, said: str) -> None:
    assert re.search(said, full.text)


def test_it_loads_nothing_and_runs_nothing(full: Page) -> None:
    names = {name for name, _ in full.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "form"}
    assert len(full.all("img")) == 12
    assert all(str(image["src"]).startswith("data:image/png;base64,") for image in full.all("img"))
    assert not any(key.startswith("on") for _, attributes in full.tags for key in attributes)
    style = "".join(full.texts[:3])
    assert "url(" not in style
    assert "@import" not in style


def test_it_is_read_aloud_and_walked_through(full: Page) -> None:
    """Landmarks, headings in order, captions and scopes, texts that stand for drawings and pictures."""
    names = [name for name, _ in full.tags]
    assert [names.count(name) for name in ("header", "nav", "main", "footer")] == [1] * 4
    assert full.headings == [1] + [2] * (len(full.headings) - 1)
    assert len(full.headings) == 10
    assert names.count("caption") == names.count("table")
    assert all(cell.get("scope") in ("col", "row") for cell in full.all("th"))
    assert all(image["alt"] for image in full.all("img"))
    drawn = [svg for svg in full.svg if svg.get("role") == "img"]
    assert len(drawn) == 3  # the network, what is right, the steps
    assert all(svg[0].tag == "title" and svg[1].tag == "desc" for svg in drawn)
    assert all(part.get("tabindex") == "0" for part in full.all("div"))
    anchors = {str(link["href"])[1:] for link in full.all("a")}
    assert anchors <= {str(attributes.get("id")) for _, attributes in full.tags}


def test_light_dark_narrow_and_paper_are_styled(full: Page) -> None:
    (viewport,) = [meta for meta in full.all("meta") if meta.get("name") == "viewport"]
    assert viewport["content"] == "width=device-width, initial-scale=1"
    for wanted in ("prefers-color-scheme: dark", "max-width: 30rem", "@media print"):
        assert wanted in "".join(full.texts)


HOSTILE = "x\"'><script>alert(1)</script>&"


def test_hostile_names_are_text(tmp_path: Path) -> None:
    layers = [keras.Input((6,)), keras.layers.Dense(8, name=HOSTILE.replace("/", "_"))]
    given = keras.Sequential([*layers, keras.layers.Dense(3, name="out")], name="a<b>&c")
    page = page_of(krp.prune(given, 0.5, method="norm", verbose=0), tmp_path)
    assert "script" not in {name for name, _ in page.tags}
    assert any(HOSTILE.replace("/", "_") in text for text in page.texts)
    assert "a<b>&c, pruned" in page.text


def test_a_single_step_without_data_has_no_chart(tmp_path: Path) -> None:
    page = page_of(krp.prune(model(), 0.5, method="norm", step=0.5, verbose=0), tmp_path)
    assert [svg.get("aria-label") for svg in page.svg] == ["The network small, before and after"]
    assert "Step by step" not in page.text


def test_one_point_is_no_line() -> None:
    two = Line("b", [Point(0, 0.9), Point(0.5, 0.5)])
    drawn = line_chart([Line("a", [Point(0, 1)]), two], "title", "removed")
    assert "a:" not in drawn
    assert drawn.count("<circle") == 2


def test_points_lie_where_they_belong() -> None:
    drawn = line_chart(
        [Line("a", [Point(0.0, 1.0, 0.5, 1.0), Point(0.5, 0.0)])], "title", "removed"
    )
    assert '<circle cx="40.0" cy="10.0"' in drawn  # the left end, at the top
    assert '<circle cx="428.0" cy="208.0"' in drawn  # the right end, on the axis
    assert "M40.0 109.0V10.0" in drawn  # the interval, from the middle up


def test_a_share_of_the_target_is_the_same_run_with_less() -> None:
    result = krp.prune(model(), 0.5, method="norm", step=0.5, verbose=0)
    graph, plan = result.origin.at(0.5)
    again = krp.prune(build(result.dense), 0.25, method="norm", step=0.5, verbose=0)
    assert plan == again.plan
    assert graph.num_params == again.graph.num_params


def test_a_report_is_replaced_only_when_asked_and_never_a_strangers(tmp_path: Path) -> None:
    result = krp.prune(model(), 0.5, method="norm", verbose=0)
    result.report(tmp_path / "a.html")
    with pytest.raises(FileExistsError):
        result.report(tmp_path / "a.html")
    result.report(tmp_path / "a.html", overwrite=True)
    (tmp_path / "b.html").write_text("<p>mine</p>")
    with pytest.raises(FileExistsError):
        result.report(tmp_path / "b.html", overwrite=True)


@pytest.mark.parametrize("given", [{"x": X}, {"y": Y}, {"attacks": ["fgsm@0.1"]}])
def test_labels_and_inputs_belong_together(tmp_path: Path, given: dict[str, Any]) -> None:
    result = krp.prune(model(), 0.5, method="norm", verbose=0)
    with pytest.raises(ValueError, match="pass both x and y"):
        result.report(tmp_path / "a.html", **given)


def test_the_drawing_knows_who_reads_whom() -> None:
    graph = read(network("residual"))
    groups = find_groups(graph)
    found = rows(graph, graph, groups)
    assert found[0].reads == ()
    joins = [row for row in found if len(row.reads) > 1]
    assert joins
    assert all(source < k for k, row in enumerate(found) for source in row.reads)
    assert all(row.before == row.after for row in found)


@pytest.mark.parametrize(
    ("shape", "drawn"),
    [
        ((28, 28, 1), (28, 28, 1)),
        ((16, 16, 3), (16, 16, 3)),
        ((16, 16, 5), (16, 16, 1)),
        ((40, 2), (40, 2, 1)),
        ((7,), (1, 7, 1)),
        ((784,), (28, 28, 1)),
        ((200, 100, 3), (67, 50, 3)),
        ((4, 8, 8, 1), (8, 8, 1)),
    ],
)
def test_every_input_is_a_picture(shape: tuple[int, ...], drawn: tuple[int, ...]) -> None:
    picture = picture_of(np.full(shape, 2.0), InputSpec(shape, 0.0, 4.0))
    assert picture is not None
    assert picture.shape == drawn
    assert (picture == 128).all()
    assert data_uri(picture).startswith("data:image/png;base64,iVBOR")

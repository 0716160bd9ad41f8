"""The report and the site in a browser: nothing scrolls sideways, nothing is loaded, axe-core finds no violation.

Needs Chromium (Debian's `chromium`), Node, and `npm install axe-core puppeteer-core` in a folder that NODE_PATH names.
`.ci/run` installs them where it can.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tf_keras

import keras_robust_prune as krp

ROOT = Path(__file__).parents[2]
LOOK = ROOT / "tests" / "tools" / "look.mjs"
MODULES = Path(os.environ.get("NODE_PATH", "node_modules")).resolve()
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MISSING = [
    what
    for what, found in {
        "chromium": CHROMIUM,
        "node": shutil.which("node"),
        "axe-core": (MODULES / "axe-core").is_dir(),
        "puppeteer-core": (MODULES / "puppeteer-core").is_dir(),
        "sphinx, myst-parser and furo": all(
            importlib.util.find_spec(name) for name in ("sphinx", "myst_parser", "furo")
        ),
    }.items()
    if not found
]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("screens"),  # the browser opens every page once
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]
PAGES = ("report", "index", "one_call", "api")
VIEWS = ("light", "dark", "narrow", "narrow_dark")


def report(path: Path) -> None:
    """A report with every section, long names among them."""
    layers = [tf_keras.Input((8, 8, 1)), tf_keras.layers.Conv2D(8, 3, name="a" * 60)]
    layers += [tf_keras.layers.Flatten(), tf_keras.layers.Dense(6, name="dense")]
    model = tf_keras.Sequential([*layers, tf_keras.layers.Dense(3, name="out")])
    x, y = np.random.default_rng(0).random((16, 8, 8, 1), np.float32), np.arange(16) % 3
    result = krp.prune(model, 0.5, method="norm", step=0.25, verbose=0)
    files = krp.export(result.model, path.with_name("small.tflite"), ["float32", "dynamic"])
    certificate = krp.certify(model, result.model, x[:2], 0.001)
    given: dict[str, Any] = {"shares": [0.5], "files": files, "certificate": certificate}
    result.report(path, x, y, attacks=["fgsm@0.1"], **given)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """What the browser found, and the folder of its pictures."""
    folder, site = tmp_path_factory.mktemp("screens"), ROOT / "build" / "site"
    report(folder / "report.html")
    build = [sys.executable, "-m", "sphinx", "-q", "-b", "html", str(ROOT / "docs"), str(site)]
    subprocess.run(build, check=True)  # only what is newer than what is there
    pages = [folder / "report.html", site / "index.html", site / "guides" / "one_call.html"]
    pages.append(site / "api.html")
    command = ["node", str(LOOK), str(folder), str(CHROMIUM), *map(str, pages)]
    environment = {**os.environ, "NODE_PATH": str(MODULES)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return json.loads(done.stdout), folder


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("page", PAGES)
def test_axe_finds_nothing(seen: tuple[dict[str, Any], Path], page: str, view: str) -> None:
    assert seen[0][page][view]["violations"] == []


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("page", PAGES)
def test_nothing_scrolls_sideways_or_is_loaded(
    seen: tuple[dict[str, Any], Path], page: str, view: str
) -> None:
    assert seen[0][page][view]["scrolls"] <= 0
    assert seen[0][page][view]["loaded"] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_view_is_a_picture_and_paper_a_pdf(
    seen: tuple[dict[str, Any], Path], page: str
) -> None:
    folder = seen[1]
    for view in VIEWS:
        assert (folder / f"{page}.{view}.png").read_bytes()[:4] == b"\x89PNG"
    assert (folder / f"{page}.pdf").read_bytes()[:4] == b"%PDF"

"""The command line as programs use it: statuses, JSON, absl's forms of flags, nothing on standard error."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keras_robust_prune as krp
from keras_robust_prune import cli, demo

NETWORK = str(demo.FOLDER / "digits.h5")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty images as `x_test` and `y_test`, and a network of half the width."""
    place = tmp_path_factory.mktemp("scripts")
    with np.load(demo.FOLDER / "digits.npz") as found:
        np.savez(place / "d.npz", x_test=found["x"][:20] / np.float32(16), y_test=found["y"][:20])
    assert cli.run(["prune", NETWORK, str(place / "half.h5"), "--method=norm", "--quiet"]) == 0
    return place


def figures(words: list[str], capsys: pytest.CaptureFixture[str], status: int = 0) -> Any:
    """The one line of JSON that a command prints with `--json`."""
    capsys.readouterr()
    assert cli.run([*words, "--json"]) == status
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert found["command"] == words[0]
    return found["found"]


def test_a_missed_target_has_a_message_and_a_status_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["prune", NETWORK, str(tmp_path / "small.h5"), "--method=norm", "--round_to=64"]
    assert cli.run([*words, "--quiet"]) == cli.MISSED == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(r"target missed: 0\.0% of the units were removed, 50\.0% were asked for", line)
    assert (tmp_path / "small.h5").exists()
    found = figures([*words, "--overwrite"], capsys, status=3)
    assert (found["asked"], found["removed"]) == (0.5, 0.0)
    assert found["missed"] in line
    for text in (["--help"], ["prune", "--help"]):
        assert cli.run(text) == 0
        assert re.search(r"3 done, but the target was missed|status is 3", capsys.readouterr().out)


def test_json_of_prune(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, file = tmp_path / "small.h5", tmp_path / "small.tflite"
    words = ["prune", NETWORK, str(out), "--method=norm", f"--tflite={file}"]
    found = figures([*words, f"--data={folder / 'd.npz'}"], capsys)
    assert found["units"] == {"conv_1": [16, 8], "conv_2": [32, 16], "dense": [64, 32]}
    assert found["params"] == [38426, krp.load(out).count_params()]
    assert found["measured"][".tflite bytes"]["after"]["number"] == file.stat().st_size
    share = found["measured"]["accuracy"]["before"]
    assert share["num_samples"] == 20
    assert share["number"] == krp.evaluate(NETWORK, *labelled(folder)).accuracy
    assert found["written"] == [str(out), str(file)]
    assert (found["removed"], found["missed"], found["measure"]) == (0.5, "", "units")


def labelled(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(folder / "d.npz") as found:
        return found["x_test"], found["y_test"]


def test_json_of_the_other_commands(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, half = f"--data={folder / 'd.npz'}", str(folder / "half.h5")
    found = figures(["inspect", NETWORK], capsys)
    assert found == krp.inspect(NETWORK).to_dict()
    assert [group["units"] for group in found["groups"]] == [16, 32, 64]
    assert found["kept"][0]["code"] == "output"

    found = figures(["evaluate", half, data, f"--reference={NETWORK}"], capsys)
    assert [item["name"] for item in found["measures"]] == ["clean", "agreement"]
    assert found["num_inputs"] == 20

    found = figures(["certify", NETWORK, half, data, "--eps=0.001", "--num_inputs=3"], capsys)
    wanted = krp.certify(NETWORK, half, labelled(folder)[0][:3], 0.001)
    assert found["agree"] == wanted.agree.tolist()
    assert found["deviation_upper"] == wanted.deviation_upper.tolist()

    words = ["export", half, str(tmp_path / "a.tflite"), "--quantize=float32,dynamic"]
    found = figures(words, capsys)
    assert [Path(item["path"]).name for item in found] == ["a.float32.tflite", "a.dynamic.tflite"]
    files = [item["path"] for item in found]
    described = json.loads(json.dumps(krp.describe_tflite(files[0]).to_dict()))
    assert figures(["inspect", files[0]], capsys) == described
    found = figures(["files", *files, "--runs=5"], capsys)
    assert [found[path][0]["number"] for path in files] == list(map(os.path.getsize, files))


def test_certify_in_words(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["certify", NETWORK, str(folder / "half.h5"), f"--data={folder / 'd.npz'}"]
    assert cli.run([*words, "--num_inputs=2"]) == 0
    assert "2 inputs, l-inf radius 0.01" in capsys.readouterr().out
    assert cli.run(words[:3]) == 1
    assert "--data=FILE.npz with an array x" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "overwrite"),
    [
        (["--overwrite"], True),
        (["-overwrite"], True),
        (["--overwrite=true"], True),
        (["-overwrite=1"], True),
        (["--overwrite", "--nooverwrite"], False),
        (["--overwrite", "--overwrite=false"], False),
        (["--overwrite=0", "-target=0.25"], False),
    ],
    ids=str,
)
def test_flags_have_the_forms_that_absl_gives_them(words: list[str], overwrite: bool) -> None:
    args = cli.parse(["prune", *words, "in", "out"])
    assert args.overwrite is overwrite
    assert (args.source, args.out) == ("in", "out")
    assert args.target == (0.25 if "-target=0.25" in words else 0.5)


@pytest.mark.parametrize(
    "name", ["dense_per_tensor", "softmax", "force", "overwrite", "trust", "quiet"]
)
def test_every_switch_of_a_command_has_them(name: str) -> None:
    for word, wanted in ((f"--{name}=true", True), (f"-{name}=0", False), (f"--no{name}", False)):
        assert getattr(cli.parse(["export", "in", "out", word]), name) is wanted


def test_what_is_no_truth_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["prune", "in", "out", "--overwrite=perhaps"]) == 1
    assert "--overwrite: ignored explicit argument 'perhaps'" in capsys.readouterr().err


@pytest.mark.slow
def test_ordinary_runs_write_nothing_to_standard_error(folder: Path, tmp_path: Path) -> None:
    """TensorFlow's start-up, the converter's `fully_quantize` and XNNPACK are written past Python."""
    words = ["prune", NETWORK, "small.h5", "--method=norm", "--tflite=small.tflite"]
    words += ["--quantize=int8", "--calibration", str(folder / "d.npz")]
    told = subprocess.run(
        [sys.executable, "-m", "keras_robust_prune.cli", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"},
    )
    assert (told.returncode, told.stderr) == (0, "")
    assert "Written: small.tflite" in told.stdout

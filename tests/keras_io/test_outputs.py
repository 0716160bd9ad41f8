"""Nothing foreign is replaced: names that clash are refused before the work, content decides what may be replaced."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from networks import network

import keras_robust_prune as krp
from keras_robust_prune import cli, demo
from keras_robust_prune.keras_io import outputs, writing
from keras_robust_prune.keras_io.files import load

NETWORK = demo.FOLDER / "digits.h5"


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and the user's own files; the working directory."""
    (tmp_path / "proj" / "sub").mkdir(parents=True)
    shutil.copyfile(NETWORK, tmp_path / "proj" / "m.h5")
    (tmp_path / "proj" / "notes.txt").write_text("mine")
    (tmp_path / "link").symlink_to("proj")
    (tmp_path / "link.h5").symlink_to("proj/m.h5")
    (tmp_path / "page.html").write_text("<html>mine</html>")
    (tmp_path / "other.h5").write_text("mine")
    np.savez(tmp_path / "data.npz", x=np.zeros((2, 8, 8, 1), "f4"), y=[0, 1])
    monkeypatch.chdir(tmp_path)
    return tmp_path


CLASHES = {
    "proj/m.h5 proj": "contains MODEL",
    "proj/m.h5 link": "contains MODEL",
    "proj/m.h5 proj/m.h5": "OUT and MODEL are the same",
    "proj/m.h5 proj/sub/../m.h5": "OUT and MODEL are the same",
    "proj/m.h5 link.h5": "OUT and MODEL are the same",
    "link.h5 link/m.h5": "OUT and MODEL are the same",
    "proj/m.h5 out.h5 --tflite=proj/m.h5": "--tflite and MODEL are the same",
    "proj/m.h5 out.h5 --report=proj/m.h5": "--report and MODEL are the same",
    "proj/m.h5 out.h5 --checkpoint=proj/m.h5": "--checkpoint and MODEL are the same",
    "proj/m.h5 out.tflite --tflite=out.tflite": "--tflite and OUT are the same",
    "proj/m.h5 out --tflite=out/out.tflite": r"--tflite .* lies inside OUT",
    "proj/m.h5 out --checkpoint=./out": "--checkpoint and OUT are the same",
    "proj/m.h5 out.h5 --report=r.html --checkpoint=r.html": "--checkpoint and --report are the same",
    "proj/m.h5 out.h5 --data=data.npz --checkpoint=data.npz": "--checkpoint and --data are the same",
    "proj/m.h5 x.tflite": r"no model ends in '\.tflite'",
    "proj/m.h5 x.txt": r"no model ends in '\.txt'",
    "proj/m.h5 x.H5": r"x\.h5",
    "proj/m.h5 .": "names no file",
    "proj/m.h5 proj/sub/..": "names no file",
    "proj/m.h5 out.h5 --tflite=": "names no file",
    "proj/m.h5 out.h5 --tflite=x.h5": r"ends in '\.tflite'",
    "proj/m.h5 out.h5 --report=x.tflite": r"ends in '\.html'",
    "proj/m.h5 proj/notes.txt/out.h5": "is a file, not a folder",
    "proj/m.h5 proj/sub": "is no SavedModel",
    "proj/m.h5 other.h5": "is no Keras model",
    "proj/m.h5 out.h5 --report=page.html": "is no report",
    "proj/m.h5 out.h5 --checkpoint=proj/notes.txt": "is no checkpoint",
}


@pytest.mark.parametrize(("line", "reason"), CLASHES.items(), ids=CLASHES)
def test_a_command_that_would_lose_something_is_refused_before_the_work(
    line: str, reason: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(project)
    words = ["prune", *line.split(" "), "--method=norm", "--overwrite"]
    assert cli.run(words) == 1
    printed = capsys.readouterr()
    assert re.search(reason, printed.err), printed.err
    assert "step 1" not in printed.out
    assert content(project) == before


def test_an_empty_name_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["prune", "proj/m.h5", "", "--overwrite"]) == 1
    assert "names no file" in capsys.readouterr().err


def test_everything_is_told_at_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["prune", "proj/m.h5", "x.txt", "--tflite=proj/m.h5", "--report=p.pdf"]) == 1
    message = capsys.readouterr().err
    for part in (".txt", "--tflite and MODEL", ".pdf"):
        assert part in message


def test_what_is_of_the_same_kind_is_replaced(project: Path) -> None:
    words = ["prune", "proj/m.h5", "small", "--tflite=small.tflite", "--report=small.html"]
    words += ["--checkpoint=run", "--method=norm", "--quiet"]
    assert cli.run(words) == 0
    assert cli.run([*words, "--overwrite"]) == 0
    (project / "small" / "notes.txt").write_text("mine")
    assert cli.run([*words, "--overwrite"]) == 1
    assert (project / "small" / "notes.txt").read_text() == "mine"


def test_the_python_api_is_guarded_likewise(project: Path) -> None:
    before = content(project)
    with pytest.raises(ValueError, match="path and model are the same"):
        krp.export_tflite("proj/m.h5", "link.h5", overwrite=True)
    with pytest.raises(FileExistsError, match="is no SavedModel"):
        writing.save(network("mlp"), "proj", overwrite=True)
    with pytest.raises(ValueError, match="checkpoint and model are the same"):
        krp.prune("proj/m.h5", method="norm", checkpoint="proj/m.h5")
    with pytest.raises(FileExistsError, match="is no checkpoint"):
        krp.prune(network("mlp"), method="norm", checkpoint="proj/notes.txt")
    assert content(project) == before


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "m.keras").symlink_to("deep/m.keras")
    writing.save(network("mlp"), tmp_path / "m.keras")
    writing.save(network("mlp"), tmp_path / "m.keras", overwrite=True)
    assert (tmp_path / "m.keras").is_symlink()
    load(tmp_path / "deep" / "m.keras")


@pytest.mark.parametrize("name", ["m.h5", "m.keras", "m"])
def test_one_of_many_threads_wins_and_nothing_is_half(name: str, tmp_path: Path) -> None:
    """Eight threads write to one path at once."""
    model = network("mlp")
    place = tmp_path / name

    def write(_: int) -> bool:
        try:
            writing.save(model, place)
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(write, range(8))) == 1
    load(place)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: writing.save(model, place, overwrite=True), range(8)))
    load(place)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["m.h5", "m.keras", "m"])
def test_a_thread_that_writes_a_second_time_writes_the_same_kind(name: str, tmp_path: Path) -> None:
    """Of two files that one thread saves, tf_keras makes the second `.keras` an HDF5 file."""
    model = network("mlp")
    places = [tmp_path / folder / name for folder in "ab"]
    with ThreadPoolExecutor(1) as pool:
        list(pool.map(lambda place: writing.save(model, place), places))
    kind = outputs.model_kind(name)
    assert [outputs.recognised(kind, place) for place in places] == [True, True]


def killed_while(act: str, folder: Path) -> None:
    """A process that is killed inside `replacing`."""
    program = f"""
import os, signal
from pathlib import Path
from keras_robust_prune.keras_io import outputs, writing
{act}
"""
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment(), check=False
    )
    assert found.returncode == -9


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(krp.__file__).parents[1])}


def test_drafts_of_killed_runs_are_removed_by_the_next(tmp_path: Path) -> None:
    killed_while(
        "with writing.replacing('a.html', outputs.PAGE) as draft:\n"
        "    draft.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)",
        tmp_path,
    )
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".krp-")
    with writing.replacing(tmp_path / "b.html", outputs.PAGE) as draft:
        draft.write_text("whole")
        # A draft of a living run stays.
        with writing.replacing(tmp_path / "c.html", outputs.PAGE) as other:
            other.write_text("whole")
    assert {path.name for path in tmp_path.iterdir()} == {"b.html", "c.html"}


def test_what_a_killed_run_was_replacing_is_put_back(tmp_path: Path) -> None:
    writing.save(network("mlp"), tmp_path / "m")
    before = content(tmp_path)
    killed_while(
        "old = Path(writing._name('old', 'm'))\n"
        "Path('m').rename(old)\n"
        "os.kill(os.getpid(), signal.SIGKILL)",
        tmp_path,
    )
    with writing.replacing(tmp_path / "b.html", outputs.PAGE) as draft:
        draft.write_text("whole")
    (tmp_path / "b.html").unlink()
    assert content(tmp_path) == before


LIMITED: dict[str, Callable[[str], list[str]]] = {
    "h5": lambda source: ["prune", source, "small.h5"],
    "SavedModel": lambda source: ["prune", source, "small"],
}


@pytest.mark.parametrize("words", LIMITED.values(), ids=LIMITED)
def test_a_quota_ends_in_one_message_and_nothing_is_left(
    words: Callable[[str], list[str]], tmp_path: Path
) -> None:
    """`ulimit -f 8`: no file larger than eight blocks."""
    line = " ".join([*words(str(NETWORK)), "--method=norm", "--target=0.25", "--quiet"])
    found = subprocess.run(
        ["bash", "-c", f"ulimit -f 8; exec '{sys.executable}' -m keras_robust_prune.cli {line}"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1, found.stderr
    assert re.search(r"^error: '.*' was not written \(", found.stderr, re.MULTILINE), found.stderr
    assert "Traceback" not in found.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not Path("/proc/self").exists():
        pytest.skip("there is no /proc")
    assert cli.run(["prune", str(NETWORK), "/proc/nowhere/out.h5", "--method=norm", "--quiet"]) == 1
    assert "error: " in capsys.readouterr().err

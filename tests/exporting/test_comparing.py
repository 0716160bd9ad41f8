"""Several files in one table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from keras_robust_prune import backends, cli, demo
from keras_robust_prune.exporting.comparing import compare_files
from keras_robust_prune.exporting.tflite import export


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    model, x, _ = demo.load()
    folder = tmp_path_factory.mktemp("files")
    reports = export(
        model, folder / "a.tflite", ["float32", "int8"], calibration=x[:40], verify=False
    )
    return [report.path for report in reports]


def test_float32_and_int8_beside_each_other(files: list[str]) -> None:
    model, x, y = demo.load()
    attacks = ["square@0.1", "pgd@0.1"]
    found = compare_files(
        files,
        x[:30],
        y[:30],
        attacks=attacks,
        corruptions="gaussian_noise@3",
        reference=model,
        runs=9,
    )
    names = [item.name for item in found.measurements[0]]
    assert names == [item.name for item in found.measurements[1]]
    assert names[:4] == ["bytes", "ms, 1 thread", "ms, 2 threads", "accuracy"]
    assert {"agreement", "square@0.1", "pgd@0.1 (transfer)", "gaussian_noise@3"} <= set(names)
    by_name = [{item.name: item for item in items} for items in found.measurements]
    assert [items["bytes"].number for items in by_name] == [
        Path(path).stat().st_size for path in files
    ]
    for items in by_name:
        time = items["ms, 1 thread"]
        assert time.interval is not None
        assert time.interval[0] <= time.number <= time.interval[1]
        assert time.num_samples == 9
        assert items["square@0.1"].number <= items["accuracy"].number
    clean = by_name[0]["accuracy"].number
    assert clean == (model.predict(x[:30], verbose=0).argmax(1) == y[:30]).mean()
    assert by_name[0]["agreement"].number == 1.0
    lines = str(found).splitlines()
    assert lines[0].split() == ["a.float32.tflite", "a.int8.tflite"]
    assert len(lines) == 2 + len(names)


def test_attacks_follow_the_model_that_a_file_was_made_of(files: list[str]) -> None:
    """They followed the reference for every file: a flat one lets nothing be found, whatever the file is worth."""
    model, x, y = demo.load()
    flat = backends.tf_keras().models.clone_model(model)
    flat.set_weights([0 * weight for weight in model.get_weights()])
    given = {"attacks": "pgd@0.2", "reference": model, "runs": 3, "corruptions": "gaussian_noise"}
    found = compare_files(files, x[:30], y[:30], surrogates=[model, flat], **given)
    first, second = ({item.name: item.number for item in items} for items in found.measurements)
    assert first["pgd@0.2 (transfer)"] < second["pgd@0.2 (transfer)"] - 0.2
    noise = [value for name, value in first.items() if name.startswith("gaussian_noise@")]
    assert len(noise) == 5
    assert first["corruptions, mean"] == pytest.approx(np.mean(noise))
    with pytest.raises(ValueError, match="1 surrogates for 2 files"):
        compare_files(files, x[:30], y[:30], surrogates=[model])


def test_the_command_prints_the_table(
    files: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.run(["files", *files, "--runs=3"]) == 0
    assert "ms, 2 threads" in capsys.readouterr().out
    np.savez(tmp_path / "none.npz", x=np.zeros((1, 8, 8, 1)))
    assert cli.run(["files", *files, f"--data={tmp_path / 'none.npz'}"]) == 1

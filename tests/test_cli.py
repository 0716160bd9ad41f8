"""The command line: what it writes, what it refuses, and that it never leaves halves."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import keras_robust_prune as krp
from keras_robust_prune import cli, demo
from keras_robust_prune.cli import about, flags
from keras_robust_prune.evaluation.attacks import ATTACKS
from keras_robust_prune.evaluation.litefile import LiteFile
from keras_robust_prune.exporting.quantization import _REGISTRY
from keras_robust_prune.keras_io.reading import read
from keras_robust_prune.latency.kernels import kernels_of

NETWORK = str(demo.FOLDER / "digits.h5")
IMAGES = str(demo.FOLDER / "digits.npz")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Forty images, scaled as the network takes them, and their labels."""
    with np.load(IMAGES) as found:
        x, y = found["x"][:40] / np.float32(16), found["y"][:40]
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    np.savez(path, x=x, y=y)
    return str(path)


def names(folder: Path) -> set[str]:
    """What is in a folder, hidden files too."""
    return {path.name for path in folder.iterdir()}


DETAILS = {name: getattr(about, name.upper()) for name in cli.COMMANDS}
FLAGS = {
    "prune": "target method seed measure step calibration keep round_to device stop checkpoint input_range tflite"
    " quantize report overwrite data attacks quiet json trust extensions limits latency_table force minutes memory"
    " certify",
    "inspect": "keep extensions trust json",
    "evaluate": "data attacks corruptions reference input_range seed quiet json trust extensions",
    "certify": "data eps num_inputs input_range quiet json trust extensions",
    "export": "quantize calibration input_range dense_per_tensor min_agreement max_runtime force overwrite seed trust"
    " extensions quiet json float_layers labels softmax",
    "files": "data attacks corruptions reference surrogates runs input_range seed trust extensions quiet json",
    "demo": "target method seed overwrite quiet json",
}


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_tells_its_own_flags(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--help"]) == 0
    assert re.search(rf"^    {name} +\w", capsys.readouterr().out, re.MULTILINE)
    assert cli.run([name, "--help"]) == 0
    text = capsys.readouterr().out
    shown = re.findall(r"^  --(\w+)", text, re.MULTILINE)
    assert sorted(shown) == sorted([*FLAGS[name].split(), "helpfull"])
    assert f"  {flags.PROGRAM} {name} " in text


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_examples_in_the_help_parse(name: str) -> None:
    lines = DETAILS[name].replace("\\\n", " ").splitlines()
    examples = [line.split() for line in lines if line.strip().startswith(flags.PROGRAM)]
    assert examples
    for _, *words in examples:
        words = words[: words.index(">")] if ">" in words else words  # the shell's part
        assert cli.parse(words).command == name


def test_defaults_are_those_of_prune() -> None:
    defaults = inspect.signature(krp.prune).parameters
    found = vars(cli.parse(["prune", "in", "out"]))
    shared = set(defaults) & set(found)
    assert shared >= {"target", "method", "measure", "step", "keep", "round_to", "stop", "seed"}
    for name in shared - {"input_range"}:  # a text, read below
        default = defaults[name].default
        assert (found[name] or None) == (default or None), name  # no flag, none given


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"keras-robust-prune {krp.__version__}\n"


def test_quiet_prints_what_was_found_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["prune", NETWORK, str(tmp_path / "small.h5"), "--method=norm", "--target=0.25"]
    assert cli.run([*words, "--overwrite"]) == 0
    assert "step 16: 25.0% of units removed" in capsys.readouterr().out
    assert cli.run([*words, "--overwrite", "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert "step 16:" not in printed
    assert "total" in printed


@pytest.mark.parametrize(
    ("words", "way_out"),
    [
        (["shrink"], "'prune', 'inspect'"),
        (["prune", NETWORK], "required: OUT"),
        (["prune", NETWORK, "out", "--colour=red"], "--colour=red. See .*--help"),
        (
            ["prune", NETWORK, "out", "--target=half"],
            "neither a fraction such as 0.5 nor fractions by layer",
        ),
        (["prune", NETWORK, "out", "--target=half"], "prune --help"),
        (["prune", NETWORK, "out", "--target=conv=half"], "such as conv_3=0.7"),
        (["prune", NETWORK, "out", "--target=conv=.5,conv=.6"], "each once"),
        (["prune", NETWORK, "out", "--target=nothing=.5"], "there is no group .nothing."),
        (["prune", NETWORK, "out", "--certify=.1"], "give them with --data"),
        (["prune", NETWORK, "out", "--attacks=pgd@0.1"], "--data"),
        (["prune", NETWORK, "out", "--target=1.5"], "at least 0 and less than 1"),
        (["prune", NETWORK, "out", "--method=best"], "Choose one of .*paper"),
        (["prune", NETWORK, "out", "--input_range=1"], "two numbers such as 0,255"),
        (["prune", NETWORK, "out", "--keep=dens"], "did you mean 'dense'"),
        (["prune", "nowhere.h5", "out"], "no such file"),
        (["prune", NETWORK, "out", f"--data={IMAGES}.txt"], "No such file"),
        (["inspect", IMAGES], "neither a SavedModel|no .keras file"),
        (["evaluate", NETWORK], "--data=FILE.npz"),
    ],
    ids=lambda value: " ".join(map(os.path.basename, value)) if isinstance(value, list) else "",
)
def test_errors_are_one_message(
    words: list[str],
    way_out: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(words) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert re.search(way_out, printed.err), printed.err
    assert names(tmp_path) == set()


def test_prune_writes_every_output(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, tflite, page = tmp_path / "small", tmp_path / "small.tflite", tmp_path / "small.html"
    few = tmp_path.with_name("few.npz")
    with np.load(data) as found:
        np.savez(few, x=found["x"][:8], y=found["y"][:8])
    words = ["prune", NETWORK, str(out), "--method=norm", "--target=0.5", f"--data={few}"]
    words += ["--attacks=fgsm@0.1", f"--tflite={tflite}", "--quantize=dynamic", f"--report={page}"]
    words.append("--certify=0.001")
    assert cli.run(words) == 0
    printed = capsys.readouterr().out
    assert names(tmp_path) == {"small", "small.tflite", "small.html"}
    small = krp.load(out)
    assert [layer.filters for layer in small.layers if hasattr(layer, "filters")] == [8, 16]
    # conv 9 * 8, norm 4 * 8, conv 9 * 8 * 16, norm 4 * 16, dense 4 * 4 * 16 * 32 + 32, dense 32 * 10 + 10
    params = 72 + 32 + 1152 + 64 + 8224 + 330
    assert small.count_params() == params
    assert f"{params:,}" in printed
    assert "fgsm@0.1 accuracy" in printed
    assert f"{tflite.stat().st_size:,}" in printed
    assert "Certificate: 8 inputs, l-inf radius 0.001" in printed
    text = page.read_text()
    assert "<svg" in text
    assert "Proven for 8 inputs, l-inf radius 0.001" in text
    assert f"{params:,}" in text
    assert re.search(r'(src|href)="(?!#)', text) is None


def test_bytes_are_those_of_the_file_that_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A limit of bytes was that of a float32 file, whatever was written."""
    dense, tflite = tmp_path / "dense.tflite", tmp_path / "small.tflite"
    krp.export_tflite(krp.load(NETWORK), dense, "dynamic", verify=False)
    words = ["prune", NETWORK, str(tmp_path / "small.h5"), f"--tflite={tflite}", "--method=norm"]
    words += ["--quantize=dynamic", "--limits=bytes=0.6", "--device=none"]
    assert cli.run(words) == 0
    share = tflite.stat().st_size / dense.stat().st_size
    assert 0.5 < share < 0.65
    assert "Predicted: bytes " in capsys.readouterr().out


def test_a_table_of_another_type_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    times = {use.kernel: 1.0 for use in kernels_of(read(krp.load(NETWORK)))}
    krp.latency.LatencyTable(times, about={"dtype": "int8"}).save(tmp_path / "phone.csv")
    words = ["prune", NETWORK, str(tmp_path / "small.h5"), "--method=norm", "--measure=latency"]
    cli.run([*words, f"--latency_table={tmp_path / 'phone.csv'}", "--target=0.1"])
    assert "holds the times of int8, but --quantize=none" in capsys.readouterr().err


def test_a_fraction_per_layer(tmp_path: Path) -> None:
    out = tmp_path / "small.h5"
    words = [
        "prune",
        NETWORK,
        str(out),
        "--method=norm",
        "--target=conv_1=.5, dense=.25",
        "--quiet",
    ]
    assert cli.run(words) == 0
    found = {layer.name: layer for layer in krp.load(out).layers}
    # 16, 32 and 64 before
    assert (found["conv_1"].filters, found["conv_2"].filters, found["dense"].units) == (8, 32, 48)


def test_what_exists_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, tflite = tmp_path / "small.h5", tmp_path / "small.tflite"
    words = ["prune", NETWORK, str(out), f"--tflite={tflite}", "--method=norm"]
    assert cli.run([*words, "--target=0.25"]) == 0
    before = out.read_bytes()
    capsys.readouterr()
    assert cli.run(words) == 1
    message = capsys.readouterr().err
    assert str(out) in message
    assert str(tflite) in message
    assert out.read_bytes() == before
    assert cli.run([*words, "--overwrite"]) == 0
    assert krp.load(out).count_params() < krp.load(NETWORK).count_params()
    assert names(tmp_path) == {"small.h5", "small.tflite"}


def test_interruption_leaves_nothing_and_the_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["prune", NETWORK, str(tmp_path / "small"), "--method=paper", "--step=0.015625"]
    words += [f"--checkpoint={tmp_path / 'run.npz'}", "--target=0.25"]
    # Started in the background of a script, a program would ignore SIGINT; a terminal's would not.
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    program += "from keras_robust_prune import cli; cli.main()"
    command = [sys.executable, "-c", program, *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as running:
        while not (tmp_path / "run.npz").exists():
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.wait(0.01)
                break
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate()
    assert running.returncode == 130, errors
    assert "interrupted" in errors
    assert f"goes on from '{tmp_path / 'run.npz'}'" in errors
    assert "Traceback" not in errors
    assert names(tmp_path) == {"run.npz"}
    assert cli.run([*words, "--json"]) == 0
    history = json.loads(capsys.readouterr().out)["found"]["history"]
    assert len(history["kept_units"]) < 16  # of 16 steps, the rest
    assert names(tmp_path) == {"run.npz", "small"}


def test_inspect_and_evaluate(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["inspect", NETWORK, "--keep=dense"]) == 0
    printed = capsys.readouterr().out
    assert "conv_2" in printed
    assert "is kept as asked" in printed
    assert cli.run(["evaluate", NETWORK, f"--data={data}", "--attacks=pgd@0.1"]) == 0
    printed = capsys.readouterr().out
    assert "40 inputs" in printed
    assert "pgd@0.1" in printed


def test_demo_shows_what_was_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "shown"
    assert cli.run(["demo", str(folder), "--method=norm"]) == 0
    printed = capsys.readouterr().out
    assert names(folder) == {"dense", "pruned", "pruned.tflite"}
    for row in ("conv_1", "dense", "total", "accuracy", "pgd@0.1 accuracy", ".tflite bytes"):
        assert f"\n{row} " in printed, row
    for path in (folder / "dense", folder / "pruned", folder / "pruned.tflite"):
        assert str(path) in printed
    assert cli.run(["demo", str(folder)]) == 1
    assert "Choose another name" in capsys.readouterr().err


@pytest.mark.slow
def test_export_writes_several_files(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", NETWORK, str(tmp_path / "a.tflite"), f"--calibration={data}"]
    assert cli.run([*words, "--quantize=float16,int8_uint8"]) == 0
    assert names(tmp_path) == {"a.float16.tflite", "a.int8_uint8.tflite"}
    assert "uint8, scale" in capsys.readouterr().out
    assert cli.run([*words, "--quantize=int8", "--max_runtime=1.13"]) == 1
    assert "--dense_per_tensor" in capsys.readouterr().err
    assert names(tmp_path) == {"a.float16.tflite", "a.int8_uint8.tflite"}


def test_attacks_of_a_file_are_named_like_any(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        "import keras_robust_prune as krp\n"
        "def dark(classifier, x, labels, threat, *, steps, rng):\n"
        "    return x - threat.eps * threat.scale\n"
        "krp.register_attack('dark', dark, needs_gradients=False)\n"
    )
    words = ["evaluate", NETWORK, f"--data={data}", "--attacks=dark@0.9"]
    before = dict(ATTACKS)
    try:
        assert cli.run(words) == 1
        assert "krp.register_attack" in capsys.readouterr().err
        assert cli.run([*words, f"--extensions={mine}"]) == 0
        assert re.search(r"^dark@0.9 +\.\d", capsys.readouterr().out, re.MULTILINE)
    finally:
        ATTACKS.clear()
        ATTACKS.update(before)
    assert cli.run([*words, f"--extensions={tmp_path / 'none.py'}"]) == 1
    assert "a Python file that is there" in capsys.readouterr().err


def test_quantizations_of_a_file_are_named_like_any(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names were checked while flags were parsed, before any extension had run."""
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from keras_robust_prune.exporting.quantization import *\n"
        "half = quantization_for('float16')\n"
        "register_quantization(Quantization('halves', half.configure))\n"
    )
    out = tmp_path / "out"
    words = ["prune", NETWORK, str(out / "small.h5"), "--method=norm", "--quantize=halves"]
    words += [f"--tflite={out / 'small.tflite'}", "--quiet"]
    out.mkdir()
    before = dict(_REGISTRY)
    try:
        assert cli.run(words) == 1
        assert "quantize is 'halves', but it is one of" in capsys.readouterr().err
        assert names(out) == set()
        assert cli.run([*words, f"--extensions={mine}"]) == 0
    finally:
        _REGISTRY.clear()
        _REGISTRY.update(before)
    assert LiteFile(out / "small.tflite").ops()["DEQUANTIZE"] >= 4


@pytest.mark.parametrize(
    ("flags", "round_to"),
    [
        ("", 1),
        ("--tflite=a.tflite", 1),  # each layer is asked for half of its units
        ("--tflite=a.tflite --measure=macs", 8),
        ("--tflite=a.tflite --quantize=int8 --limits=bytes=0.5", 16),
        ("--tflite=a.tflite --measure=macs --device=none", 1),
        ("--tflite=a.tflite --measure=macs --round_to=2", 2),
        ("--device=hexagon", 32),
    ],
)
def test_a_file_gets_widths_that_kernels_like(flags: str, round_to: int) -> None:
    args = cli.parse(["prune", "in", "out", *flags.split()])
    assert cli._round_to(args, args.quantize) == round_to

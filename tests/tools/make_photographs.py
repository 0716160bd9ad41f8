"""Makes the photographs that travel inside the package, from three public collections.

    pip download --no-deps scikit-image==0.25.2 scipy==1.9.3     # unpack the wheels
    git clone https://github.com/pmndrs/assets                    # CC0-1.0, of npm's @pmndrs/assets
    python tests/tools/make_photographs.py SKIMAGE SCIPY ASSETS keras_robust_prune/synthesis/photographs

`SKIMAGE` and `SCIPY` are the unpacked folders, `ASSETS` the clone. Needs NumPy and Pillow. Panoramas are
developed with one curve and seen through a lens of 80 degrees in up to four directions.
"""

from __future__ import annotations

import bz2
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

# Of scikit-image: file, box (left, upper, right, lower; None is all of it), width of what is stored.
SKIMAGE = {
    "astronaut.png": (None, 480),
    "brick.png": ((0, 0, 400, 400), 280),
    "camera.png": (None, 400),
    "chelsea.png": (None, 451),
    "clock_motion.png": (None, 300),
    "coffee.png": (None, 560),
    "grass.png": ((0, 0, 300, 300), 240),
    "gravel.png": ((0, 0, 360, 360), 260),
    "hubble_deep_field.jpg": ((0, 0, 720, 640), 400),
    "retina.jpg": (None, 300),
    "rocket.jpg": (None, 560),
}
# Of the assets: names, and the headings where four views would repeat themselves.
PANORAMAS = "apartment bridge city dawn esplanade forest hall lab lobby"
PANORAMAS += " night park sky studio sunrise sunset venice warehouse workshop"
FEW = {"sky": (0, 180), "studio": (0, 180), "hall": (0, 90), "dawn": (0, 180), "bridge": (45, 135)}
WIDTH, HEIGHT, ANGLE = 288, 216, 80.0


def radiance(path: Path) -> np.ndarray:
    """A Radiance HDR picture, run-length coded, as `(height, width, 3)` linear floats."""
    data = path.read_bytes()
    at = data.index(b"\n\n") + 2
    end = data.index(b"\n", at)
    words = data[at:end].split()
    height, width = int(words[1]), int(words[3])
    at, rows = end + 1, np.zeros((height, 4, width), np.uint8)
    for row in rows:
        at += 4  # 2, 2 and the width
        for channel in row:
            x = 0
            while x < width:
                count = data[at]
                if count > 128:
                    channel[x : x + count - 128] = data[at + 1]
                    x, at = x + count - 128, at + 2
                else:
                    channel[x : x + count] = np.frombuffer(data, np.uint8, count, at + 1)
                    x, at = x + count, at + 1 + count
    mantissa, exponent = rows[:, :3].astype(np.float32), rows[:, 3:].astype(np.int32)
    return np.ldexp(mantissa, exponent - 136).transpose(0, 2, 1)


def view(panorama: np.ndarray, heading: float, pitch: float) -> np.ndarray:
    """What a camera sees, linear; drawn at twice the size and halved."""
    tall, wide = panorama.shape[:2]
    half = np.tan(np.radians(ANGLE / 2))
    x = np.linspace(-half, half, 2 * WIDTH)
    y = np.linspace(-half, half, 2 * HEIGHT) * HEIGHT / WIDTH
    right, down = np.meshgrid(x, y)
    tilt = np.radians(pitch)
    ahead = np.cos(tilt) + down * np.sin(tilt)
    lower = down * np.cos(tilt) - np.sin(tilt)
    longitude = np.arctan2(right, ahead) + np.radians(heading)
    latitude = np.arctan2(lower, np.hypot(right, ahead))
    column = (longitude / (2 * np.pi) % 1.0) * wide - 0.5
    line = np.clip((latitude / np.pi + 0.5) * tall - 0.5, 0, tall - 1.001)
    left, top = np.floor(column).astype(int), np.floor(line).astype(int)
    a, b = (column - left)[..., None], (line - top)[..., None]
    upper = panorama[top, left % wide] * (1 - a) + panorama[top, (left + 1) % wide] * a
    under = panorama[top + 1, left % wide] * (1 - a) + panorama[top + 1, (left + 1) % wide] * a
    seen = upper * (1 - b) + under * b
    return seen.reshape(HEIGHT, 2, WIDTH, 2, 3).mean((1, 3))


def developed(linear: np.ndarray) -> np.ndarray:
    """Exposed for its median, highlights rolled off, in sRGB."""
    light = linear @ np.array([0.2126, 0.7152, 0.0722])
    value = linear * (0.2 / max(float(np.median(light)), 1e-6))
    value = value * (1 + value / 16) / (1 + value)
    curve = np.where(value < 0.0031308, 12.92 * value, 1.055 * value ** (1 / 2.4) - 0.055)
    return np.round(255 * np.clip(curve, 0, 1)).astype(np.uint8)


def pictures(skimage: Path, scipy: Path, assets: Path) -> Iterator[tuple[str, Image.Image]]:
    """Name and picture, one after the other."""
    for name, (box, width) in SKIMAGE.items():
        picture = Image.open(skimage / "skimage/data" / name)
        picture = picture.convert("L" if picture.mode == "L" else "RGB").crop(box)
        height = round(picture.height * width / picture.width)
        yield Path(name).stem, picture.resize((width, height), Image.Resampling.LANCZOS)
    face = np.frombuffer(bz2.decompress((scipy / "scipy/misc/face.dat").read_bytes()), np.uint8)
    raccoon = Image.fromarray(face.reshape(768, 1024, 3))
    yield "raccoon", raccoon.resize((640, 480), Image.Resampling.LANCZOS)
    for name in PANORAMAS.split():
        panorama = radiance(assets / f"src/hdri/{name}.hdr")
        for heading in FEW.get(name, (0, 90, 180, 270)):
            seen = developed(view(panorama, heading, 0.0))
            yield f"{name}_{heading:03d}", Image.fromarray(seen)


def main() -> None:
    *sources, target = map(Path, sys.argv[1:])
    target.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures(*sources):
        picture.save(target / f"{name}.jpg", quality=85, optimize=True, progressive=True)
    files = sorted(target.glob("*.jpg"))
    print(f"{len(files)} photographs, {sum(f.stat().st_size for f in files):,} bytes")


if __name__ == "__main__":
    main()

"""Photographs of ImageNet's median size, cut from what Debian ships.

    apt-get install desktop-base gnome-backgrounds plasma-workspace-wallpapers
    python tests/interop/loader_photographs.py FOLDER [COUNT]

writes at most COUNT (default 600) JPEGs of 500 x 375 pixels at quality 90 into FOLDER/train/CLASS,
and a few into FOLDER/val: detailed pieces of the pictures in /usr/share/wallpapers and
/usr/share/backgrounds, each at a random place and scale.
"""

import io
import pathlib
import random
import sys

from PIL import Image

SOURCES = ["/usr/share/wallpapers", "/usr/share/backgrounds", "/usr/share/images"]
SIZE = (500, 375)
CLASSES = 10
#: Bytes of a piece that has something to show.
LEAST = 45_000


def sources():
    found = [path for root in SOURCES for path in sorted(pathlib.Path(root).rglob("*"))
             if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")
             and path.stat().st_size > 150_000 and not path.is_symlink()]
    pictures = []
    for path in found:
        image = Image.open(path)
        if image.width >= 1000 and image.height >= 750:
            pictures.append(path)
    if not pictures:
        sys.exit(f"no pictures of 1000 x 750 pixels or more in {', '.join(SOURCES)}: install "
                 "desktop-base, gnome-backgrounds or plasma-workspace-wallpapers")
    return pictures


def piece(image, rng):
    scale = rng.uniform(1.0, min(image.width / SIZE[0], image.height / SIZE[1], 3.0))
    width, height = int(SIZE[0] * scale), int(SIZE[1] * scale)
    left, top = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
    small = image.crop((left, top, left + width, top + height)).resize(SIZE, Image.BICUBIC)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def main():
    folder = pathlib.Path(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 600
    rng = random.Random(0)
    pictures = sources()
    print(f"{len(pictures)} source pictures")
    each = -(-count // len(pictures))
    pieces = []
    # Sky and drawings are easier than photographs: their pieces are left out, and the rest gives more.
    for path in pictures * 4:
        image = Image.open(path).convert("RGB")
        found = [data for data in (piece(image, rng) for _ in range(each)) if len(data) >= LEAST]
        pieces.extend(found)
        if len(pieces) >= count:
            break
    rng.shuffle(pieces)
    for number, data in enumerate(pieces[:count]):
        split = "val" if number < 2 * CLASSES else "train"
        target = folder / split / f"class{number % CLASSES}" / f"{number:05}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    mean = sum(map(len, pieces[:count])) / max(1, len(pieces[:count]))
    print(f"{len(pieces[:count])} photographs, {mean / 1000:.0f} kB on average")


if __name__ == "__main__":
    main()

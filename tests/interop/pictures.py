"""Small pictures of every kind that spvit-data decodes, and what Pillow makes of them.

    python tests/interop/pictures.py crates/spvit-data/tests/pictures

writes the pictures and `expected.json`: for each its height and width and its bytes as three channels
and as one, upright as the EXIF orientation says. The Rust tests read both.
"""

import io
import json
import pathlib
import struct
import sys
import zlib

import numpy as np
from PIL import Image, ImageOps

HEIGHT, WIDTH = 18, 26
ORIENTATION = 0x0112


def smooth(channels, seed):
    """A picture of slow waves, which JPEG keeps to a few grey levels, [height, width, channels]."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    planes = []
    for _ in range(channels):
        across, down, phase = rng.uniform(0.05, 0.2, 2).tolist() + [rng.uniform(0, 6)]
        planes.append(127.5 + 110 * np.sin(across * columns + down * rows + phase))
    return np.stack(planes, -1).round().astype(np.uint8)


def png(kind, depth, rows):
    """A PNG by hand: Pillow writes no colours of 16 bits and no two-bit greys."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, kind, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def saved(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def turned(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def ycck():
    """A CMYK JPEG whose values are luma and chroma, and whose Adobe marker says so."""
    colours = Image.fromarray(smooth(3, 5)).convert("YCbCr")
    planes = np.concatenate([255 - np.asarray(colours), smooth(1, 6)], -1)
    data = bytearray(saved(Image.fromarray(planes, "CMYK"), "JPEG", quality=95, subsampling=0))
    transform = data.index(b"Adobe") + 11
    assert data[transform] == 0
    data[transform] = 2
    return bytes(data)


def pictures():
    colour, grey = Image.fromarray(smooth(3, 0)), Image.fromarray(smooth(1, 1)[..., 0])
    alpha = Image.fromarray(smooth(1, 2)[..., 0])
    rgba, grey_alpha = colour.copy(), grey.copy()
    rgba.putalpha(alpha)
    grey_alpha.putalpha(alpha)
    palette = colour.quantize(16)
    cmyk = Image.fromarray(smooth(4, 3), "CMYK")
    deep = np.random.default_rng(7).integers(0, 1 << 16, (HEIGHT, WIDTH, 4), np.uint16)
    def rows(channels):
        return [row[:, :channels].astype(">u2").tobytes() for row in deep]
    two_bits = np.random.default_rng(8).integers(0, 256, (HEIGHT, (WIDTH * 2 + 7) // 8), np.uint8)
    made = {
        "baseline.jpg": saved(colour, "JPEG", quality=95, subsampling=0),
        "subsampled.jpg": saved(colour, "JPEG", quality=95, subsampling=2),
        "half_subsampled.jpg": saved(colour, "JPEG", quality=95, subsampling=1),
        "progressive.jpg": saved(colour, "JPEG", quality=95, subsampling=2, progressive=True),
        "restarts.jpg": saved(colour, "JPEG", quality=95, restart_marker_blocks=1),
        "grey.jpg": saved(grey, "JPEG", quality=95),
        "cmyk.jpg": saved(cmyk, "JPEG", quality=95),
        "ycck.jpg": ycck(),
        "colour.png": saved(colour, "PNG"),
        "alpha.png": saved(rgba, "PNG"),
        "grey.png": saved(grey, "PNG"),
        "grey_alpha.png": saved(grey_alpha, "PNG"),
        "palette.png": saved(palette, "PNG"),
        "palette_alpha.png": saved(palette, "PNG", transparency=3),
        "black_and_white.png": saved(grey.convert("1"), "PNG"),
        "two_bits.png": png(0, 2, [row.tobytes() for row in two_bits]),
        "grey_16.png": png(0, 16, rows(1)),
        "colour_16.png": png(2, 16, rows(3)),
        "alpha_16.png": png(6, 16, rows(4)),
        "lossy.webp": saved(colour, "WEBP", quality=95),
        "lossless.webp": saved(rgba, "WEBP", lossless=True, exact=True),
        "colour.gif": saved(colour, "GIF"),
        "colour.bmp": saved(colour, "BMP"),
    }
    for orientation in range(1, 9):
        made[f"turned_{orientation}.jpg"] = saved(colour, "JPEG", quality=95, subsampling=0,
                                                  exif=turned(orientation))
    made["turned.png"] = saved(grey, "PNG", exif=turned(6))
    made["turned.webp"] = saved(colour, "WEBP", lossless=True, exif=turned(5))
    return made, deep


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    made, deep = pictures()
    expected = {}
    for name, data in sorted(made.items()):
        (folder / name).write_bytes(data)
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        if name == "grey_16.png":
            # Pillow clips a grey of 16 bits where it takes the upper byte of a colour of 16 bits.
            image = Image.fromarray((deep[..., 0] >> 8).astype(np.uint8))
        colour = image.convert("RGB")
        grey = image if image.mode == "L" else colour.convert("L")
        expected[name] = {"size": [image.height, image.width],
                          "colour": np.asarray(colour).ravel().tolist(),
                          "grey": np.asarray(grey).ravel().tolist()}
    lines = [f"{json.dumps(name)}: {json.dumps(value, separators=(',', ':'))}"
             for name, value in expected.items()]
    (folder / "expected.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()

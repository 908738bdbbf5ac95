"""The script beside an exported model of images."""

SCRIPT = "use.py"

USE = '''"""Masks of 8-bit images by this folder: python use.py IMAGE... For research only."""
import json, os, sys, numpy as np, onnxruntime
from pathlib import Path
from PIL import Image, ImageFilter, ImageOps

here = Path(__file__).parent
about = json.loads((here / "model.json").read_text("utf-8"))
seen = about["input"]
mode, window = "L" if seen["channels"] == 1 else "RGB", seen["window"]
options = onnxruntime.SessionOptions()
threads = (os.environ.get("OMP_NUM_THREADS") or "0").split(",")[0]  # 0: all cores
options.intra_op_num_threads = int(threads)
model = onnxruntime.InferenceSession(str(here / "model.onnx"), options, ["CPUExecutionProvider"])


def black_and_white(values):
    if isinstance(window, list):
        return window[0] - window[1] / 2, window[0] + window[1] / 2
    if "percentile" not in seen["intensity"] and window != "percentiles":
        return 0, 255
    low, high = np.percentile(values, (0.5, 99.5))
    return (low, high) if low < high else (values.min(), values.max())


def areas(n, m):
    at, ends = np.arange(n), np.arange(m + 1)[:, None] * n / m
    return np.clip(np.minimum(ends[1:], at + 1) - np.maximum(ends[:-1], at), 0, 1) * m / n


def noise(image):
    """Standard deviation of the noise beside the tissue's intensity; 0 where it cannot be told."""
    grey = np.asarray(image, float).reshape(*image.size[::-1], -1).mean(2) / 255
    h, w = (max(1, round(n * min(1, 256 / max(grey.shape)))) for n in grey.shape)
    grey = areas(grey.shape[0], h) @ grey @ areas(grey.shape[1], w).T
    white = Image.fromarray(((grey >= grey.max() - 1e-4) * 255).astype(np.uint8))
    told = np.asarray(white.filter(ImageFilter.BoxBlur(1))) < 128
    for blur, share, around in ((0, 0.3, 3), (2, 0.5, 7)):
        soft = Image.fromarray((grey * 255).round().astype(np.uint8))
        soft = np.asarray(soft.filter(ImageFilter.GaussianBlur(blur)))
        bright = Image.fromarray((soft > share * np.percentile(soft, 99)).astype(np.uint8))
        tissue = np.asarray(bright.filter(ImageFilter.MinFilter(around))) * told > 0
        if tissue.mean() >= 0.05:
            break
    level, second = grey[tissue], np.abs(np.diff(np.diff(grey, 2, 0), 2, 1) / 6)[tissue[1:-1, 1:-1]]
    enough = tissue.mean() >= 0.05 and np.median(level) >= 0.05 and second.size
    return np.median(second) / 0.6745 / np.median(level) if enough else 0


def lines(n, m):
    at = np.clip((np.arange(m)[:, None] + 0.5) * n / m - 0.5, 0, n - 1)
    return np.maximum(1 - np.abs(at - np.arange(n)), 0)


def in_square(image, size):
    (W, H), bands = image.size, image.split()
    h, w = (max(1, round(n * size / max(H, W))) for n in (H, W))
    between = areas if h <= H and w <= W else lines
    rows, columns = between(H, h), between(W, w).T
    square = np.zeros((1, len(bands), size, size), np.float32)
    top, left = (size - h) // 2, (size - w) // 2
    small = [rows @ np.asarray(band, float) @ columns / 255 for band in bands]
    square[0, :, top : top + h, left : left + w] = small
    return square, np.array([top, left, h, w, H, W])


def on_black(image):
    """In grey or colours, and black where it is not opaque."""
    grey = "L" if image.mode in ("1", "L", "LA") else "RGB"
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return image.convert(grey)


if (about["threshold"].get("inference") or {}).get("outline", "threshold") != "threshold":
    print("outlines are the threshold's; only weakseg predict mends them", file=sys.stderr)
paths = [Path(p) for p in sys.argv[1:]]
how = f"{__doc__}\\nEach IMAGE is a file; its mask is written beside it, as NAME.mask.png."
if {"-h", "--help"} & set(sys.argv):
    print(how)
    sys.exit()
if not paths:
    sys.exit(how)
for path in paths:
    if not path.is_file():
        sys.exit(f"{path}: no such file; name image files: use.py IMAGE...")
names = [p.with_suffix(".mask.png") for p in paths]
for path, name in zip(paths, names):
    if names.count(name) > 1:  # scan.png and scan.jpg
        name = path.with_name(path.name + ".mask.png")
    try:
        image = ImageOps.exif_transpose(Image.open(path))
    except OSError as e:
        why = e.strerror or "of no known format"
        sys.exit(f"{path}: cannot be read ({why}); name image files: use.py IMAGE...")
    if image.mode[0] in "IF":
        sys.exit(f"{path}: this script reads images of 8 bits. Of others: weakseg predict")
    image = on_black(image)
    low, high = black_and_white(np.asarray(image, float))
    table = np.clip((np.arange(256) - low) / max(high - low, 1e-9), 0, 1) * 255
    table = table.round().astype(int).tolist()
    image = image.point(table * len(image.getbands()))
    if (share := noise(image)) > (seen.get("noise_limit") or np.inf):
        print(
            f"{path}: noise of {share:.1%} of the tissue's intensity, above the limit of "
            f"{seen['noise_limit']:.1%} that the training images set: a lesion may be missed. "
            "Only weakseg predict --denoise smooths it",
            file=sys.stderr,
        )
    given = {}
    for entry in (i.name for i in model.get_inputs()):
        what, _, side = entry.partition("_")
        planes, box = in_square(image.convert(mode), int(side or seen["size"]))
        given[entry] = planes if what == "images" else box
    mask, *said = model.run(None, given)
    Image.fromarray(mask * 255).save(name)
    print(path, int(mask.sum()), *(float(p) for p in said[1:2]))
'''
"""The script: without torch, and without weakseg."""

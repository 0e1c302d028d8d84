"""Files of the figure that searches emoji by words: the network that labs use, and its pictures.

Made of the assets of labutils without torch. The page loads them when its reader asks; from disk a
page cannot fetch data, so these are a script that sets a variable, and a picture.
"""

import base64
import io
import json
import lzma
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

ASSETS = Path("labutils/assets")
STYLE, COLUMNS = "twemoji", 44  # a style that the network was not trained on
TOWER = ("visual.", "visual_proj", "logit_scale", "seen")  # of the checkpoint, not in the page


def pictures(root):
    """Pictures of the style (N, 32, 32, 4), their concepts (N,), and names of all concepts."""
    packed = (root / ASSETS / "emoji-core.npz.xz").read_bytes()
    arrays = np.load(io.BytesIO(lzma.decompress(packed)))
    mine = arrays["style"] == list(arrays["style_names"]).index(STYLE)
    concepts = json.loads((root / ASSETS / "emoji.json").read_text("utf-8"))["concepts"]
    return arrays["rgba"][mine], arrays["concept"][mine], [concept["name"] for concept in concepts]


def on_white(rgba):
    """RGB, uint8, rounded as by labutils.data.emoji.on_background."""
    alpha = rgba[..., 3:].astype(np.int32)
    return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def image_features(weights, rgb):
    """Unit features (N, 128), float32, of pictures (N, 32, 32, 3) in 0..255."""
    x = np.moveaxis(rgb, 3, 1).astype(np.float32) / 63.75 - 2
    for k in (0, 3, 6):
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        patches = sliding_window_view(padded, (3, 3), (2, 3))[:, :, ::2, ::2]
        x = np.tensordot(patches, weights[f"visual.{k}.weight"], ((1, 4, 5), (1, 2, 3)))
        mean, variance, weight, bias = (
            weights[f"visual.{k + 1}.{name}"]
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        x = np.maximum((x - mean) / np.sqrt(variance + 1e-5) * weight + bias, 0)
        x = np.moveaxis(x, 3, 1)
    features = x.reshape(len(x), -1) @ weights["visual_proj.weight"].T
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def write_files(app):
    """Write emoji-search.js and emoji-search.webp."""
    root, static = Path(app.srcdir), Path(app.outdir) / "_static"
    with np.load(root / ASSETS / "labs-clip-emoji.npz") as file:
        arrays = dict(file)
    rgba, concept, names = pictures(root)
    rgb = on_white(rgba)
    weights = {name: a.astype(np.float32) for name, a in arrays.items() if a.dtype == np.float16}
    kept = {name: a for name, a in arrays.items() if not name.startswith(TOWER)}
    kept["pictures"] = image_features(weights, rgb).astype(np.float16)
    data = {
        "arrays": [[name, *a.shape] for name, a in kept.items()],  # float16, but for the merges
        "data": base64.b64encode(b"".join(a.tobytes() for a in kept.values())).decode(),
        "names": [names[k] for k in concept],
        "seen": [int(arrays["seen"][k]) for k in concept],
        "columns": COLUMNS,
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    (static / "emoji-search.js").write_text(f"window.emojiSearch={text}\n", "utf-8")
    rows = -(-len(rgb) // COLUMNS)
    sheet = np.full((rows * COLUMNS, 32, 32, 3), 255, np.uint8)
    sheet[: len(rgb)] = rgb
    sheet = sheet.reshape(rows, COLUMNS, 32, 32, 3).swapaxes(1, 2).reshape(rows * 32, -1, 3)
    Image.fromarray(sheet).save(static / "emoji-search.webp", quality=60, method=4)

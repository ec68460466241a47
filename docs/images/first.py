"""Draws first.png: two runs on a 20 x 20 grid, the first beside its target. About a minute and a half of one core.

    equipoise train hypergrid --side 20 --reward cosine --rewards 0.01 0.5 --steps 3000 --every 100 \
        --batch 16 --learning-rate 2e-3 --method tb --out figure/tb
    equipoise train hypergrid --side 20 --reward cosine --rewards 0.01 0.5 --steps 3000 --every 100 \
        --batch 16 --learning-rate 2e-3 --method db --out figure/db
    python docs/images/first.py figure
"""

import io
import sys
from pathlib import Path

from PIL import Image

from equipoise.plots.canvas import png
from equipoise.plots.figures import heat_maps, learning_curves
from equipoise.recipes import open_run

NAMES = {"tb": "trajectory balance", "db": "detailed balance"}
DPI = 120

runs = {name: open_run(Path(sys.argv[1]) / name) for name in NAMES}
judge = runs["tb"].built.judge
maps = heat_maps(judge.log_target.softmax(0).view(20, 20), judge.distribution().view(20, 20))
left = Image.open(io.BytesIO(png(maps, dpi=DPI)))
# The third map, of differences too small to see, is left out.
left = left.crop((0, 0, int(maps.axes[2].get_tightbbox().x0 / maps.dpi * DPI) - 8, left.height))

curves = learning_curves({NAMES[name]: run.folder.metrics() for name, run in runs.items()}, log=True)
curves.set_size_inches(4.2, maps.get_figheight())
right = Image.open(io.BytesIO(png(curves, dpi=DPI)))

whole = Image.new("RGB", (left.width + right.width, left.height), "white")
whole.paste(left, (0, 0))
whole.paste(right, (left.width, 0))
whole.quantize(128).save(Path(__file__).with_suffix(".png"), optimize=True)

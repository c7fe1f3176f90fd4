"""Writes docs/melray.ipynb from the cells below, executed: `python -m docs.make_notebook`.

`tests/test_notebook.py` executes it too.
"""

from __future__ import annotations

import base64
import io
import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

NOTEBOOK = Path(__file__).parent / "melray.ipynb"
TIMEOUT_S = 600

# Markdown cells begin with #, the others are code.
CELLS = [
    """\
# melray in a notebook

From synthetic sounds to a trained classifier, its results, and its dataset in PyTorch, in a minute or two on
two cores. With your own audio, replace the first cell by a folder with one sub-folder per class. All
functions: [docs/python.md](python.md).""",
    """\
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import soundfile

import melray

classes = ["bell_struck", "chirp_rising", "engine", "siren", "ticks_slowing"]
melray.synthesize_sounds("sounds", train_per_class=16, test_per_class=4, classes=classes)""",
    """\
## Extract and train

The commands of the terminal. Small spectrograms and a small network, so that this takes seconds; leave the
settings out for real sounds.""",
    """\
%%bash
set -o pipefail
melray extract --quiet --data sounds --out shards \\
  --features.mel.n-mels 48 --features.mel.hop-length 1024 | tail -n 2
melray train-classifier --quiet --shards shards --run run --epochs 20 --batch-size 16 \\
  --learning-rate 8e-3 --ema-decay 0.9 --mixup.rate 0.2 \\
  --model.channels 8 16 32 --model.convs-per-block 1 --model.embedding-dim 32 | tail -n 2""",
    """\
run = melray.read_run("run")
run.history[["train_loss", "val_loss"]].plot(figsize=(5, 2.5), ylabel="loss")
plt.show()""",
    """\
## Classify

A result shows its spectrogram, a player and the most probable classes.""",
    """\
classifier = melray.load_classifier("run", device="cpu")
classifier.predict("sounds/test/clip_000.wav")""",
    """\
Many files become a table. The labels of the synthetic test clips are known, so that they can be compared.""",
    """\
table = classifier.classify_many("sounds/test")
table["true"] = pd.read_csv("sounds/test_labels.csv")["label"]
table["file"] = table["file"].str.rpartition("/")[2]
accuracy = (table["label"] == table["true"]).mean()
print(f"accuracy on {len(table)} test clips: {accuracy:.0%}")
table[["file", "true", "label", "probability"]].head()""",
    """pd.crosstab(table["true"], table["label"])""",
    """\
## A long recording

Windows of a recording of any length, and the events in which a class is above its threshold. Here
four test clips follow each other.""",
    """\
clips = [melray.load_audio(f"sounds/test/clip_{i:03d}.wav", 22_050)[0] for i in range(4)]
recording = np.concatenate([np.pad(clip, (0, 22_050)) for clip in clips])
soundfile.write("recording.wav", recording, 22_050)
windows = classifier.classify_windows("recording.wav", hop=0.5)
windows.table.plot(figsize=(8, 2.5), xlabel="start of the window in seconds", ylabel="probability")
plt.legend(fontsize=7)
plt.show()
windows.event_table.round(2)""",
    """\
## The dataset

Table, spectrograms in a memory map, labels, and the split that the run was trained with.""",
    """\
dataset = run.open_dataset()
print(dataset, dataset.mels.dtype, dataset.mels.shape)
figure, axes = plt.subplots(1, len(classes), figsize=(10, 1.8), sharey=True)
for axis, label in zip(axes, classes):
    row = dataset.table.query("label == @label and copy == 0").index[0]
    axis.imshow(dataset.mels[row].astype("float32"), origin="lower", aspect="auto", cmap="magma")
    axis.set_title(label, fontsize=8)
    axis.axis("off")
plt.show()""",
    """\
For PyTorch, with the augmentation of training and its split:""",
    """\
import torch
from torch.utils.data import DataLoader

torch.manual_seed(0)
loader = DataLoader(dataset.torch("train", augment=True), batch_size=16, shuffle=True)
linear = torch.nn.Linear(dataset.features.shape[0], len(dataset.class_names))
optimizer = torch.optim.Adam(linear.parameters(), lr=0.05)
for epoch in range(5):
    for mel_BMT, label_B in loader:
        loss = torch.nn.functional.cross_entropy(linear(mel_BMT.mean(dim=2) / 20), label_B)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
mels, labels = dataset.arrays("validation")
with torch.no_grad():
    predicted = linear(torch.from_numpy(mels).mean(dim=2) / 20).argmax(dim=1).numpy()
print(f"linear model on the mean spectrum: validation accuracy {np.mean(predicted == labels):.0%},",
      f"the network: {run.summary['val_accuracy']:.0%}")""",
    """\
Samples are arrays:""",
    """\
samples, rate = melray.load_audio("sounds/test/clip_000.wav")
print(f"{samples.size / rate:.1f} s at {rate} Hz, {melray.loudness(samples, rate):.1f} dB")
print(melray.spectrogram(samples, sample_rate=rate).shape, "chosen by length and rate;",
      melray.spectrogram(samples, classifier.features, rate).shape, "as the classifier has it")""",
    """\
## Searches and generators

A search (`melray tune`, which uses Ray) and a generator (`melray train-gan`) need half an hour each, so
they are not trained here:

```python
trials = melray.read_search("runs/search")          # a row per trial: settings, score, all metrics
trials.plot.scatter("learning_rate", "score", logx=True)

generator = melray.load_generator("runs/gan")
generator.generate("siren", seed=1)                 # shown with spectrogram and player
```""",
]


def is_markdown(cell: str) -> bool:
    """Return whether a cell is text: a heading, or a sentence that ends the cell."""
    return cell.startswith("#") or cell.endswith((".", ":", "```"))


def make_notebook() -> nbformat.NotebookNode:
    """Return the notebook without outputs."""
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    for number, text in enumerate(CELLS):
        new_cell = nbformat.v4.new_markdown_cell if is_markdown(text) else nbformat.v4.new_code_cell
        cell = new_cell(text)
        cell["id"] = f"cell-{number:02d}"
        notebook.cells.append(cell)
    return notebook


def execute(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """Execute a notebook in a folder, with the commands of this installation; return it with its outputs.

    Raises:
        CellExecutionError: a cell fails.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "RAY_USAGE_STATS_ENABLED": "0"}
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
    )
    client.execute(env=environment)
    return notebook


def clean_outputs(notebook: nbformat.NotebookNode, folder: str) -> None:
    """Remove the folder, warnings of libraries and most of the size of images from the outputs."""
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        streams = [output for output in cell.outputs if output.output_type == "stream"]
        text = "".join(output.text for output in streams if output.name == "stdout").replace(folder, ".")
        others = [output for output in cell.outputs if output.output_type != "stream"]
        cell.outputs = ([nbformat.v4.new_output("stream", text=text)] if text else []) + others
        for output in others:
            if "image/png" in output.data:
                output.data["image/png"] = with_palette(output.data["image/png"])


def with_palette(png: str) -> str:
    """Return a PNG in base64 with 64 colors."""
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB").quantize(64)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def main() -> None:
    """Execute the notebook in a temporary folder and write it."""
    with tempfile.TemporaryDirectory() as folder:
        notebook = execute(make_notebook(), Path(folder))
    clean_outputs(notebook, folder)
    NOTEBOOK.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

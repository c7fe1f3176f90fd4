"""HTML reports and images of spectrograms.

Modules in reading order:

page         renders the Jinja2 templates to one self-contained HTML file
templates/   pages, their parts, style sheet and script: edit these to change how reports look and read
charts       common style of the Plotly figures, and learning curves
confusion    confusion matrix and reliability diagram
clips        spectrograms and audio as data URIs
selection    which of many classes are shown
fonts        fonts that have the characters of a text, for images
notebook     clips as HTML for the output of a notebook's cell
figures      spectrogram grids as PNG, and the training animation

Principle: Python computes what a page shows, templates say how; libraries render. A page works without a
network, in light and dark, and states each figure in words too.
"""

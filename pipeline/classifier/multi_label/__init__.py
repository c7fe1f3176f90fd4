"""Classifiers of several labels: any number of classes per clip, each with a probability of its own.

label_mode  whether a run is multi-label, as its dataset or as set
targets     targets of a batch, and the loss
validation  metrics of the validation clips, and thresholds chosen on them
evaluation  metrics of `melray evaluate`; report: its HTML report
"""

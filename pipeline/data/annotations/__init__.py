"""Annotated events of recordings, as people write them down, and the labels that windows get from them.

- `annotation`: an event; parsing of its times.
- `event_columns`: which columns of a table have times and classes.
- `event_table`: a CSV that lists the events of many recordings.
- `recording_names`: recordings by the paths that such a table has from elsewhere.
- `annotation_files`: Raven selection tables and Audacity label files: their content.
- `file_search`: which of these files belongs to which recording.
- `annotated_folder`: recordings of a folder with their annotation files.
- `read_annotations`: the annotations of a folder of recordings, whichever form they have.
- `birdnet_folders`: class names in names of folders, as BirdNET reads them.
- `window_labels`: which windows an event labels, and which are background.
- `recording_windows`: manifest of the windows of all recordings.
"""

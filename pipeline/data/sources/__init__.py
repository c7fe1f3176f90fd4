"""Parts of `manifest.py` and `unlabeled.py`: clips in folders and tables, as people have them.

- `folder_layout`: which folders are classes; recognizes splits and folds, leaves out other folders;
  `divided_classes`: classes with splits in their folders.
- `split_names`: names of data splits in folders and tables; `split_column` finds the column of a
  table, `split_values` reads its values, `split_folder` finds the folder in paths,
  `split_lists` reads lists of files next to class folders.
- `audio_folders`: recordings below a folder, links included, and what is left out.
- `file_kinds`: which of many files are recordings; reads first bytes concurrently.
- `clip_table`: clips of a CSV or a list of paths; `table_reader` reads its rows, `row_values` their values,
  `missing_header` names the columns of one without header,
  `listed_files` finds their files.
- `audio_location`: where the files are that a table names.
- `name_patterns`: recordings and folds that file names contain.
- `class_warnings`: classes that cannot be learned, or look like one class.
- `column_names`: names that people give to columns; `table_columns`: which columns of a table are used;
  `one_hot_columns`: which have 0 and 1 for each class or split, and `one_hot_table` reads these as one.
- `file_finder`: files by names that differ from those on disk in form, case or ending.
- `unread_files`: files of other kinds that may have the audio of a folder without any.
- `object_status`: size and time of many objects, by listings and concurrent requests.
"""

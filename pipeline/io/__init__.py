"""Input and output: errors, console, files, and paths on local disk or in an object store.

- `errors`: `UserError`, reported in one line with a fix; conversion of operating system errors.
- `text`: numbers with their nouns.
- `console`: log messages, progress bars and live displays on stderr.
- `standard_error`: hides lines that libraries write directly to file descriptor 2.
- `filesystems`: connections to S3 and Google Cloud Storage through pyarrow.
- `remote_path`: `RemotePath`, the subset of `pathlib.Path` that melray uses, for objects in a bucket.
- `files`: atomic writes, portable file names, CSV text.
- `yaml_files`: YAML by the rules of version 1.2.
- `folder_tree`: listings of local and remote folders.
- `csv_files`: CSV and text files with any separator, in UTF-8 or UTF-16.
- `folder_lock`: `own_folder`, one command at a time in an output folder.
- `output_folder`: which command wrote an output folder.
- `storage`: `PathOrURI` for configurations, and functions that accept local and remote paths alike.

Files are replaced atomically and never modified in place. Imports no other folder of pipeline.
"""

"""Input and output: errors, console, files, and paths on local disk or in an object store.

- `errors`: `UserError`, reported in one line with a fix; conversion of operating system errors.
- `console`: log messages, progress bars and live displays on stderr.
- `filesystems`: connections to S3 and Google Cloud Storage through pyarrow.
- `remote_path`: `RemotePath`, the subset of `pathlib.Path` that melray uses, for objects in a bucket.
- `files`: atomic writes, portable file names, YAML.
- `storage`: `PathOrURI` for configurations, and functions that accept local and remote paths alike.

Files are replaced atomically and never modified in place. Imports no other folder of pipeline.
"""

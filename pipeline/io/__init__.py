"""Input and output: errors, console, files, and paths on local disk or in an object store.

- `errors`: `UserError`, reported in one line with a fix; conversion of operating system errors.
- `arguments`: checks of what a Python program passes.
- `text`: numbers with their nouns.
- `console`: log messages, progress bars and live displays on stderr.
- `standard_error`: hides lines that libraries write directly to file descriptor 2.
- `object_store`: what melray needs of a bucket; `obstore_bucket` and `hub_bucket` implement it.
- `store_errors`: errors of object stores, in one line and without secrets.
- `boto3_listing`: listings of S3 with keys that obstore cannot address.
- `store_connections`: credentials, endpoints and retries of each kind of object store.
- `range_reader`: random access to an object.
- `read_once`: remote files that are looked at several times, but requested once.
- `remote_path`: `RemotePath`, the subset of `pathlib.Path` that melray uses, for objects in a bucket.
- `ray_filesystem`: an object store as pyarrow filesystem, for Ray's own state.
- `concurrent`: concurrent reads and writes by threads.
- `background_uploads`: uploads to an object store while the caller continues.
- `files`: atomic writes, portable file names, CSV text.
- `yaml_files`: YAML by the rules of version 1.2.
- `bucket_listing`: listings of large folders by concurrent requests.
- `folder_markers`: objects that stand for folders, and folders that keys imply.
- `folder_tree`: listings of local and remote folders.
- `tab_rows`: rows of tab-separated text with quotes; `quoted_rows`: those of other separators.
- `csv_files`: CSV and text files with any separator, in UTF-8 or UTF-16.
- `table_files`: tables in CSV, JSON or Parquet, read in the same way.
- `row_location`: locations of files that are values in Parquet files.
- `folder_lock`: `own_folder`, one command at a time in an output folder.
- `output_folder`: which command wrote an output folder.
- `storage`: `PathOrURI` for configurations, and functions that accept local and remote paths.

Files are replaced atomically and never modified in place. Imports no other folder of pipeline.
"""

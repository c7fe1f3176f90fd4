"""The file that `melray export` writes: checked before the work, written as a whole."""

from __future__ import annotations

from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.files import write_atomically
from pipeline.io.storage import check_writable
from pipeline.training.export.config import ExportConfig
from pipeline.training.export.onnx_model import check_onnx


def check_output(config: ExportConfig) -> None:
    """Check that the file can be written, and create its folder.

    Raises:
        UserError: it exists and may not be replaced, its folder cannot be created, or a package is missing.
    """
    out = config.out
    with report_os_errors("writing to", out):
        if out.is_dir():
            raise UserError(f"--out {out} is a folder: give a file, such as {out / 'model.onnx'}")
        if out.exists() and not config.overwrite:
            raise UserError(f"--out {out} exists: choose another --out, or add --overwrite to replace it")
        out.parent.mkdir(parents=True, exist_ok=True)
    check_writable(out.parent)
    if config.resolved_format == "onnx":
        check_onnx()


def write_output(config: ExportConfig, content: bytes) -> None:
    """Write the file atomically.

    Raises:
        UserError: it cannot be written.
    """
    with report_os_errors("writing to", config.out):
        write_atomically(config.out, lambda file: file.write(content))

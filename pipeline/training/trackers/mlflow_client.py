"""MLflow: an experiment with nested runs, and the model registry."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.training.trackers.client import Artifact, NewRun
from pipeline.training.trackers.record import TrackerRecord

# Limits of its interface: parameters and metrics of a request, characters of a parameter and of a name.
MAX_PARAMETERS, MAX_METRICS, MAX_CHARACTERS, MAX_NAME = 100, 1000, 6000, 250
ID_TAG, KIND_TAG, STATE_TAG = "melray.id", "melray.kind", "melray.state"
EPOCH = "epoch"
_STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
# By default a request to a server that is down takes minutes.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class MlflowTracker:
    """Sends runs to the server or folder of `MLFLOW_TRACKING_URI`."""

    def __init__(self, root: Path):
        """Connect at the first request; `root`, the command's run folder, stays as it is."""
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        self._client = MlflowClient()

    def start(self, record: TrackerRecord, new: NewRun) -> None:
        run = self._find(record) or self._create(record, new)
        record.remote_id = run.info.run_id
        # What the server has, not what was recorded: the command may have been killed in between.
        record.epoch = int(run.data.metrics.get(EPOCH, 0))
        if run.info.status != "RUNNING":
            self._client.update_run(record.remote_id, status="RUNNING")
        self._log_parameters(run, new.parameters)

    def _find(self, record: TrackerRecord) -> Any:
        """Return the run of a record; None if the server has none."""
        experiment = self._client.get_experiment_by_name(record.project)
        if experiment is None:
            return None
        found = self._client.search_runs([experiment.experiment_id], f"tags.`{ID_TAG}` = '{record.id}'")
        return found[0] if found else None

    def _create(self, record: TrackerRecord, new: NewRun) -> Any:
        tags = {ID_TAG: record.id, KIND_TAG: new.kind}
        if new.parent_id:
            tags["mlflow.parentRunId"] = new.parent_id
        experiment = self._experiment_id(record.project)
        return self._client.create_run(experiment, run_name=new.name, tags=tags)

    def _experiment_id(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        if (experiment := self._client.get_experiment_by_name(name)) is not None:
            return str(experiment.experiment_id)
        try:
            return str(self._client.create_experiment(name))
        except MlflowException:
            # Another command has created it in the meantime.
            if (experiment := self._client.get_experiment_by_name(name)) is None:
                raise
            return str(experiment.experiment_id)

    def _log_parameters(self, run: Any, parameters: Mapping[str, Any]) -> None:
        """Log the parameters that a run does not have; those that it has can never change."""
        from mlflow.entities import Param

        missing = [
            Param(_name(key), _text(value))
            for key, value in parameters.items()
            if _name(key) not in run.data.params
        ]
        for start in range(0, len(missing), MAX_PARAMETERS):
            self._client.log_batch(run.info.run_id, params=missing[start : start + MAX_PARAMETERS])

    def log_epoch(
        self, record: TrackerRecord, epoch: int, metrics: Mapping[str, float], samples: Sequence[Artifact]
    ) -> None:
        self._log_files(record, samples)
        # In one request with the number of the epoch, by which a resumed run knows what the server has.
        self._log_metrics(record, {**metrics, EPOCH: epoch}, epoch)

    def _log_metrics(self, record: TrackerRecord, metrics: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        values = [Metric(_name(name), float(value), now, step) for name, value in metrics.items()]
        for start in range(0, len(values), MAX_METRICS):
            self._client.log_batch(record.remote_id, metrics=values[start : start + MAX_METRICS])

    def _log_files(self, record: TrackerRecord, files: Sequence[Artifact]) -> None:
        for file in files:
            folder = str(Path(file.name).parent)
            self._log_file(record, file, None if folder == "." else folder)

    def _log_file(self, record: TrackerRecord, file: Artifact, folder: str | None) -> None:
        self._client.log_artifact(record.remote_id, str(file.path), folder)

    def log_results(
        self, record: TrackerRecord, results: Mapping[str, float], files: Sequence[Artifact]
    ) -> None:
        self._log_files(record, files)
        if results:
            self._log_metrics(record, results, record.epoch)

    def log_model(
        self, record: TrackerRecord, name: str, files: Sequence[Artifact], metadata: Mapping[str, Any]
    ) -> None:
        for file in files:
            folder = Path("model", file.name).parent
            self._log_file(record, file, str(folder))
        self._register(name)
        self._client.create_model_version(
            name,
            f"runs:/{record.remote_id}/model",
            record.remote_id,
            tags={key: _text(value)[:MAX_CHARACTERS] for key, value in metadata.items()},
        )

    def _register(self, name: str) -> None:
        """Create the registered model `name` unless it exists."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def close(self, record: TrackerRecord, state: str) -> None:
        self._client.set_tag(record.remote_id, STATE_TAG, state)
        self._client.set_terminated(record.remote_id, _STATUS[state])


def _name(text: str) -> str:
    """Return a name that MLflow accepts: a single other one would be refused with its whole request."""
    return re.sub(r"[^\w\-. :/]", "_", text)[:MAX_NAME]


def _text(value: Any) -> str:
    """Return a setting as text: JSON, except texts."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text[:MAX_CHARACTERS]

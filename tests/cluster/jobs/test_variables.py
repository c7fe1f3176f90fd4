"""Environment variables of a job: what is sent, and that no message shows a value."""

from __future__ import annotations

import pytest

from cluster.arguments.flags import parse
from cluster.jobs.submit import SubmitConfig
from cluster.jobs.variables import describe_variables, job_variables, tracker_warnings
from pipeline.io.errors import UserError

HERE = {
    "AWS_ENDPOINT_URL": "http://10.0.0.9:9000",
    "AWS_REGION": "eu-central-1",
    "AWS_SECRET_ACCESS_KEY": "sesame",
    "AWS_PROFILE": "work",
    "HF_ENDPOINT": "",
}


def test_storage_settings_are_sent_but_no_secrets() -> None:
    sent = {"AWS_ENDPOINT_URL": "http://10.0.0.9:9000", "AWS_REGION": "eu-central-1"}
    assert job_variables([], True, HERE) == sent
    assert job_variables([], False, HERE) == {}


def test_named_variables_have_precedence() -> None:
    named = ["AWS_SECRET_ACCESS_KEY", "AWS_REGION=us-east-1", "A=b=c", "EMPTY="]
    assert job_variables(named, True, HERE) == {
        "AWS_ENDPOINT_URL": "http://10.0.0.9:9000",
        "AWS_REGION": "us-east-1",
        "AWS_SECRET_ACCESS_KEY": "sesame",
        "A": "b=c",
        "EMPTY": "",
    }


@pytest.mark.parametrize("url", ["https://me:sesame@store:9000", "me:sesame@store:9000"])
def test_url_with_a_password_is_sent_only_when_named(url: str) -> None:
    here = {"AWS_ENDPOINT_URL": url}
    assert job_variables([], True, here) == {}
    assert job_variables(["AWS_ENDPOINT_URL"], True, here) == here


def test_variables_of_trackers_are_sent_where_used() -> None:
    here = {"MLFLOW_TRACKING_URI": "http://h:5000", "WANDB_API_KEY": "sesame", "WANDB_MODE": "online"}
    assert job_variables([], True, here) == {}
    assert job_variables([], True, here, ("tensorboard", "mlflow")) == {
        "MLFLOW_TRACKING_URI": "http://h:5000"
    }
    sent = job_variables([], True, here, ("wandb",))
    assert sent == {"WANDB_MODE": "online"}
    assert tracker_warnings(("wandb",), sent, here) == [
        "--log-to wandb: the job does not get WANDB_API_KEY (to send: --env WANDB_API_KEY)"
    ]
    assert tracker_warnings(("wandb",), job_variables(["WANDB_API_KEY"], True, here), here) == []
    assert tracker_warnings(("tensorboard",), {}, here) == []


def test_mlflow_uri_with_a_password_is_missed() -> None:
    here = {"MLFLOW_TRACKING_URI": "http://me:sesame@h:5000"}
    sent = job_variables([], True, here, ("mlflow",))
    (warning,) = tracker_warnings(("mlflow",), sent, here)
    assert sent == {} and "does not get MLFLOW_TRACKING_URI" in warning and "sesame" not in warning


def test_description_has_names_and_no_values() -> None:
    named = ["KEY=sesame", "AWS_REGION"]
    line = describe_variables(named, job_variables(named, True, HERE))
    assert line == (
        "environment of the job: AWS_REGION, KEY; "
        "AWS_ENDPOINT_URL of this environment (--no-storage-env sends none)"
    )
    assert describe_variables([], {}) == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("MISSING", "--env MISSING: not set in this environment; export it, or give --env MISSING=value"),
        ("sesame-open", "--env: give NAME or NAME=value"),
        ("=sesame", "--env: give NAME or NAME=value"),
        ("RAY_AUTH_TOKEN=sesame", "--env RAY_AUTH_TOKEN: jobs use the token of their cluster"),
    ],
)
def test_unusable_variable_is_an_error_without_its_value(text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        job_variables([text], True, HERE)
    assert str(error.value).startswith(message) and "sesame" not in str(error.value)


@pytest.mark.parametrize(
    "flags",
    [
        ["--env", "A", "B=c", "--follow"],
        ["--env", "A", "--follow", "--env=B=c"],
        ["--env", "A", "--env", "B=c", "--follow"],
    ],
)
def test_env_may_be_given_several_times(flags: list[str]) -> None:
    config = parse(SubmitConfig, "submit", flags)
    assert config.env == ("A", "B=c") and config.follow

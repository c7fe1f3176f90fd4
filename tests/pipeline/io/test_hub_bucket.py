"""Datasets on the Hugging Face hub: reads, listings, revisions, tokens, and how errors read."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.io.errors import UserError, is_of_storage, report_os_errors
from pipeline.io.hub_bucket import split_hub_key
from pipeline.io.storage import to_path
from pipeline.io.store_errors import StoreError
from tests.helpers.hub_server import TOKEN, HubServer

huggingface_hub = pytest.importorskip("huggingface_hub")


@pytest.fixture
def hub(empty_hub: HubServer) -> HubServer:
    """Return a hub with the dataset `me/sounds`, and a revision `v1` of it with one file."""
    for name in ("sounds/a.wav", "sounds/dog/b.wav", "sounds@v1/old.wav"):
        path = empty_hub.root / "me" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return empty_hub


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ("datasets/me/sounds", ("datasets/me/sounds", "")),
        ("datasets/me/sounds/a/b.wav", ("datasets/me/sounds", "a/b.wav")),
        ("datasets/me/sounds@v1/a@b", ("datasets/me/sounds@v1", "a@b")),
        ("datasets/me/sounds@refs/pr/1/a", ("datasets/me/sounds@refs/pr/1", "a")),
        ("datasets/me/sounds@x%2Fy/a", ("datasets/me/sounds@x%2Fy", "a")),
        ("datasets/me", ("", "datasets/me")),
        ("me/sounds/a.wav", ("", "me/sounds/a.wav")),
    ],
)
def test_key_is_split_into_dataset_and_path(key: str, parts: tuple[str, str]) -> None:
    assert split_hub_key(key) == parts


class TestReads:
    def test_each_read_is_one_request(self, hub: HubServer) -> None:
        folder: Any = to_path("hf://datasets/me/sounds")
        assert (folder / "a.wav").read_bytes() == b"sounds/a.wav"
        assert (folder / "dog/b.wav").read_range(2, 4) == b"unds"
        assert (folder / "a.wav").read_range(7) == b"a.wav"
        assert (folder / "a.wav").read_range(100, 5) == b""
        assert hub.requests == {"resolve": 4}

    def test_status_has_size_and_content_id(self, hub: HubServer) -> None:
        folder: Any = to_path("hf://datasets/me/sounds")
        before = (folder / "a.wav").info()
        assert before.size == 12 and not (folder / "dog").is_file() and not (folder / "none").is_file()
        assert hub.requests == {"paths-info": 3}
        (hub.root / "me/sounds/a.wav").write_bytes(b"other text 1")
        assert (folder / "a.wav").info().mtime_ns != before.mtime_ns

    def test_end_of_file_is_read_at_random(self, hub: HubServer) -> None:
        with to_path("hf://datasets/me/sounds/a.wav").open_input() as file:
            assert file.seek(-3, 2) == 9 and file.read() == b"wav"

    def test_listing_of_folder_is_one_request(self, hub: HubServer) -> None:
        folder: Any = to_path("hf://datasets/me/sounds")
        assert [path.name for path in folder.iterdir()] == ["a.wav", "dog"]
        assert [str(path) for path, _ in folder.walk()] == [
            "hf://datasets/me/sounds/a.wav",
            "hf://datasets/me/sounds/dog/b.wav",
        ]
        assert not (folder / "none").is_dir() and list((folder / "none").walk()) == []
        assert hub.requests == {"tree": 4}

    def test_large_folder_is_listed_in_pages(self, hub: HubServer) -> None:
        for number in range(1100):
            (hub.root / f"me/sounds/dog/{number}.wav").touch()
        assert len(list(to_path("hf://datasets/me/sounds/dog").walk())) == 1101
        assert hub.requests == {"tree": 2}

    def test_revision_has_its_own_files(self, hub: HubServer) -> None:
        folder: Any = to_path("hf://datasets/me/sounds@v1")
        assert [str(path) for path in folder.iterdir()] == ["hf://datasets/me/sounds@v1/old.wav"]
        assert (folder / "old.wav").read_bytes() == b"sounds@v1/old.wav"

    def test_busy_hub_is_asked_again(self, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("time.sleep", lambda _: None)
        hub.fail_next = 2
        assert to_path("hf://datasets/me/sounds/a.wav").read_bytes() == b"sounds/a.wav"
        assert hub.requests == {"resolve": 3}

    def test_endpoint_in_uri_precedes_environment(
        self, hub: HubServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        path = to_path(f"hf://datasets/me/sounds/a.wav?endpoint={hub.endpoint}")
        assert path.read_bytes() == b"sounds/a.wav"


class TestErrors:
    def test_missing_file_is_named(self, hub: HubServer) -> None:
        with pytest.raises(FileNotFoundError, match=r"^hf://datasets/me/sounds/none: no such object$"):
            to_path("hf://datasets/me/sounds/none").read_bytes()

    @pytest.mark.parametrize("action", ["read", "list", "status"])
    def test_missing_dataset_is_one_line(self, hub: HubServer, action: str) -> None:
        path = to_path("hf://datasets/me/typo/x")
        actions = {"read": path.read_bytes, "list": path.is_dir, "status": path.is_file}
        with pytest.raises(UserError) as error:
            actions[action]()
        assert str(error.value) == (
            "hf://datasets/me/typo: no such dataset, or private: check owner and name, and set HF_TOKEN "
            "(none is set) or run `hf auth login` (Repository not found)"
        )

    def test_private_dataset_needs_token(self, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
        hub.private.add("me/sounds")
        path = to_path("hf://datasets/me/sounds/a.wav")
        with pytest.raises(UserError, match=r"or private: .*set HF_TOKEN"):
            path.read_bytes()
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        assert path.read_bytes() == b"sounds/a.wav" and path.parent.is_dir()
        monkeypatch.setenv("HF_TOKEN", "hf_other")
        with pytest.raises(UserError, match=r"whether your token may read it \(Repository not found\)$"):
            path.read_bytes()

    def test_gated_dataset_names_page_and_token(self, hub: HubServer) -> None:
        hub.gated.add("me/sounds")
        with pytest.raises(UserError) as error:
            to_path("hf://datasets/me/sounds/a.wav").read_bytes()
        assert str(error.value).startswith(
            f"hf://datasets/me/sounds: a gated dataset: request access on {hub.endpoint}/datasets/me/sounds, "
            "and set HF_TOKEN (none is set)"
        )
        assert "Access to dataset me/sounds is restricted" in str(error.value)

    def test_unknown_revision_is_one_line(self, hub: HubServer) -> None:
        with pytest.raises(UserError) as error:
            to_path("hf://datasets/me/sounds@v9/a.wav").is_file()
        assert str(error.value) == (
            "hf://datasets/me/sounds@v9: no such branch, tag or commit (Invalid rev id: v9)"
        )

    def test_offline_mode_is_named(self, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(
            UserError, match=r"^hf://datasets/me/sounds: .*unset the `HF_HUB_OFFLINE`"
        ) as error:
            to_path("hf://datasets/me/sounds").is_dir()
        assert "\n" not in str(error.value) and hub.requests == {}

    def test_unreachable_hub_is_named(self, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("time.sleep", lambda _: None)
        path = to_path("hf://datasets/me/sounds/a.wav?endpoint=http://127.0.0.1:9")
        with pytest.raises(StoreError, match=r"^cannot reach http://127.0.0.1:9: .*refused") as error:
            path.read_bytes()
        assert error.value.transient and is_of_storage(error.value)

    def test_hub_that_fails_is_no_damaged_file(self, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("time.sleep", lambda _: None)
        path = to_path("hf://datasets/me/sounds/a.wav")
        hub.fail_next = 1000
        with pytest.raises(StoreError, match=r"^hf://datasets/me/sounds: .*Service Unavailable") as error:
            path.read_bytes()
        assert error.value.transient and is_of_storage(error.value)
        assert error.value.uri == "hf://datasets/me/sounds/a.wav"

    def test_invalid_name_is_named(self, hub: HubServer) -> None:
        with pytest.raises(UserError, match=r"^hf://datasets/me/my sounds: no name of a dataset: .*'-'"):
            to_path("hf://datasets/me/my sounds/a.wav").is_file()

    def test_writing_is_refused(self, hub: HubServer) -> None:
        path: Any = to_path("hf://datasets/me/sounds/x")
        with (
            pytest.raises(UserError, match=r"only read; choose a writable location$"),
            report_os_errors("writing", path),
        ):
            path.write_bytes(b"x")

    @pytest.mark.parametrize("uri", ["hf://me/sounds", "hf://datasets/me", "hf://spaces/me/x"])
    def test_uri_without_dataset_states_form(self, uri: str) -> None:
        with pytest.raises(ValueError, match=r"expected hf://datasets/owner/name\[@revision\]"):
            to_path(uri)

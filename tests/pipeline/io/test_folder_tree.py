"""Listings of local folders; those of buckets are compared with them in `test_storage.py`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.io.folder_tree import MISSING, LocalTree, open_tree


@pytest.fixture
def tree(tmp_path: Path) -> LocalTree:
    (tmp_path / "root/b/c").mkdir(parents=True)
    (tmp_path / "root/a.wav").write_bytes(b"12345")
    (tmp_path / "root/b/up").symlink_to("..")
    (tmp_path / "root/linked.wav").symlink_to("a.wav")
    (tmp_path / "root/broken").symlink_to("nowhere")
    os.mkfifo(tmp_path / "root/pipe")
    return LocalTree(tmp_path / "root")


def test_listing_separates_folders_links_and_files(tree: LocalTree):
    listing = tree.list("")
    assert listing.folders == ["b"] and listing.linked_folders == []
    assert listing.files == ["a.wav", "broken", "linked.wav", "pipe"]
    assert tree.list("b").folders == ["c"] and tree.list("b").linked_folders == ["up"]
    assert tree.subtree("b").list("c").files == []


def test_status_marks_missing_and_special_files(tree: LocalTree):
    assert tree.status("a.wav").size == tree.status("linked.wav").size == 5
    assert tree.status("broken").size == MISSING and tree.status("nul\0").size == MISSING
    assert not tree.status("pipe").is_regular


def test_links_to_parents_are_recognized(tree: LocalTree):
    assert tree.contains_root("b/up") and tree.contains_root("") and not tree.contains_root("b")
    assert tree.identity("b/up") == tree.identity("") != tree.identity("b")


def test_root_of_file_system_is_a_tree():
    tree = open_tree(Path("/"))
    assert tree.path("etc") == "/etc" and "etc" in tree.list("").folders

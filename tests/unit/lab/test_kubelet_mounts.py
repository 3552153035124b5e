"""Paths, addresses and words of a container, on a machine without containers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_launcher.lab.kubelet.addresses import Addresses
from gpu_launcher.lab.kubelet.mounts import (
    command_words,
    expand,
    home_directory,
    mount_table,
    rewrite,
    rewrite_address,
)

TABLE = {"/home/jovyan": Path("/lab/home"), "/home/jovyan/data": Path("/lab/data"), "/etc/x.yaml": Path("/lab/x.yaml")}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("/home/jovyan", "/lab/home"),
        ("/home/jovyan/", "/lab/home/"),
        ("/home/jovyan/work.ipynb", "/lab/home/work.ipynb"),
        ("/home/jovyan/data/a", "/lab/data/a"),
        ("/home/jovyan/database", "/lab/home/database"),
        ("--notebook-dir=/home/jovyan", "--notebook-dir=/lab/home"),
        ("sqlite:////etc/x.yaml", "sqlite:////etc/x.yaml"),
        ("/home/jovyan2", "/home/jovyan2"),
        ("/home/jovyan-2", "/home/jovyan-2"),
        ("/home/jovyan.old", "/home/jovyan.old"),
        ("/srv/home/jovyan", "/srv/home/jovyan"),
        ("x /home/jovyan. And", "x /lab/home. And"),
        ("a:/home/jovyan:b", "a:/lab/home:b"),
        ("", ""),
    ],
)
def test_mount_paths_are_rewritten_at_their_borders(text: str, wanted: str) -> None:
    assert rewrite(text, TABLE) == wanted


@given(st.text())
def test_text_without_mounts_stays(text: str) -> None:
    assert rewrite(text, {}) == text


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("http://0.0.0.0:8888/user/a/", "http://127.9.1.1:8888/user/a/"),
        ("--ip=0.0.0.0", "--ip=127.9.1.1"),
        ("10.0.0.0", "10.0.0.0"),
        ("0.0.0.0/0", "127.9.1.1/0"),
    ],
)
def test_all_interfaces_become_the_pods_own(text: str, wanted: str) -> None:
    assert rewrite_address(text, "127.9.1.1") == wanted


def test_shared_memory_and_tmp_stay_the_machines(tmp_path: Path) -> None:
    mounts = [{"name": "a", "mountPath": path} for path in ("/dev/shm", "/tmp", "/", "/data/")]
    assert mount_table({"volumeMounts": mounts}, {"a": tmp_path}) == {"/data": tmp_path}


def test_a_sub_path_is_made(tmp_path: Path) -> None:
    mounts = [{"name": "a", "mountPath": "/home/jovyan", "subPath": "ann"}, {"name": "missing", "mountPath": "/x"}]
    assert mount_table({"volumeMounts": mounts}, {"a": tmp_path}) == {"/home/jovyan": tmp_path / "ann"}
    assert (tmp_path / "ann").is_dir()


def test_home_is_the_working_directory_or_the_home_mount() -> None:
    fallback = Path("/pod")
    assert home_directory(TABLE, None, fallback) == Path("/lab/home")
    assert home_directory(TABLE | {"/srv/hub": Path("/lab/hub")}, "/srv/hub", fallback) == Path("/lab/hub")
    assert home_directory({}, "/elsewhere", fallback) == fallback


def test_variables_expand_as_kubernetes_does() -> None:
    env = {"A": "1", "B": "$(A)"}
    assert expand("$(A) $(B) $(C) $$(A) $A", env) == "1 $(A) $(C) $(A) $A"


@pytest.mark.parametrize(
    ("container", "words"),
    [
        ({}, ["jupyterhub-singleuser"]),
        ({"args": ["jupyterhub-singleuser", "--x"]}, ["jupyterhub-singleuser", "--x"]),
        ({"command": ["tini", "-g", "--"], "args": ["python", "-V"]}, ["python", "-V"]),
        ({"args": ["--debug"]}, ["jupyterhub-singleuser", "--debug"]),
        ({"command": ["/usr/bin/tini", "--"]}, ["jupyterhub-singleuser"]),
    ],
)
def test_a_container_without_a_program_runs_its_images(container: dict[str, list[str]], words: list[str]) -> None:
    assert command_words(container, ["jupyterhub-singleuser"]) == words


def test_addresses_come_back_last() -> None:
    addresses = Addresses(7)
    first, second = addresses.take(), addresses.take()
    addresses.give_back(first)
    assert (first, second, addresses.take()) == ("127.7.1.1", "127.7.1.2", "127.7.1.3")
    with pytest.raises(ValueError, match="block must lie within"):
        Addresses(0)

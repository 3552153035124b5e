"""The one call in ``jupyterhub_config.py``."""

from __future__ import annotations

import logging
import runpy
from pathlib import Path
from typing import Any

import pytest
from kubespawner import KubeSpawner
from traitlets.config import Config

import gpu_launcher
from gpu_launcher.hub.configure import configure
from gpu_launcher.hub.conflicts import ConfigurationConflict
from gpu_launcher.hub.spawner import GpuSpawner
from gpu_launcher.settings.load import SettingsError
from spawners import Build

CPU = {"id": "cpu", "display_name": "CPU", "size": {"cpu": "1", "memory": "1Gi"}}


def test_without_arguments_there_are_the_built_in_profiles() -> None:
    c = Config()
    gpu_launcher.configure(c)
    assert [profile["id"] for profile in c.GpuSpawner.settings["profiles"]] == ["cpu", "t4", "l4", "a10g"]
    assert c.JupyterHub.spawner_class == "gpu_launcher.hub.spawner.GpuSpawner"
    assert c.JupyterHub.concurrent_spawn_limit == 0


def test_a_file_and_arguments_mean_the_same(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("version: 1\nprofiles:\n- {id: cpu, display_name: CPU, size: {cpu: '1', memory: 1Gi}}\n")
    by_file, by_arguments = Config(), Config()
    configure(by_file, file=file)
    configure(by_arguments, profiles=[CPU])
    assert by_file.GpuSpawner.settings == by_arguments.GpuSpawner.settings


def test_a_file_beside_arguments_is_an_error_that_names_both(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"settings\.yaml.*profiles"):
        configure(Config(), file=tmp_path / "settings.yaml", profiles=[CPU])


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"profiles": [CPU, CPU]}, r"profiles\[1\]\.id: cpu is the id of profiles\[0\] too"),
        ({"profiles": [CPU | {"colour": "red"}]}, r"profiles\[0\]\.colour: is not a known key"),
        ({"profiles": [CPU | {"description": print}]}, r"profiles\[0\]\.description: is a function"),
        ({"culling": {"mode": "maybe"}}, "culling.mode"),
    ],
)
def test_c1_c5_a_wrong_document_stops_the_hub_with_the_path(sections: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        configure(Config(), **sections)


def test_c4_an_impossible_profile_starts_the_hub_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    c = Config()
    with caplog.at_level(logging.INFO):
        configure(c, profiles=[CPU | {"default": True}, {"id": "x", "display_name": "X", "gpu": {"name": "a10000"}}])
    assert c.JupyterHub.spawner_class
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "profile=x" in warning.getMessage()
    assert any("profile=cpu pool=" in record.getMessage() for record in caplog.records)


def test_a_price_of_an_unknown_machine_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    configure(Config(), prices={"overrides": {"g5.xlrge": 1.0}})
    assert "document warning=unknown_type: prices.overrides: g5.xlrge" in caplog.text


@pytest.mark.parametrize("section", ["KubeSpawner", "GpuSpawner"])
def test_c12_a_profile_list_beside_ours_is_an_error_that_names_both(section: str) -> None:
    c = Config()
    c[section].profile_list = [{"display_name": "theirs"}]
    with pytest.raises(ConfigurationConflict, match=rf"c\.{section}\.profile_list and gpu_launcher\.configure"):
        configure(c)


def test_c12_an_empty_profile_list_is_none() -> None:
    c = Config()
    c.KubeSpawner.profile_list = []
    configure(c)


async def test_c12_a_profile_list_that_was_set_later_is_an_error_too(build: Build) -> None:
    with pytest.raises(ConfigurationConflict, match="profile_list"):
        build(KubeSpawner={"profile_list": [{"display_name": "theirs"}]})


@pytest.mark.parametrize("chosen", [None, "kubespawner.KubeSpawner", "kubernetes", KubeSpawner])
def test_kubespawner_itself_is_replaced(chosen: Any) -> None:
    c = Config()
    if chosen:
        c.JupyterHub.spawner_class = chosen
    configure(c)
    assert c.JupyterHub.spawner_class == "gpu_launcher.hub.spawner.GpuSpawner"


def test_a_subclass_of_ours_stays() -> None:
    class Site(GpuSpawner):
        pass

    c = Config()
    c.JupyterHub.spawner_class = Site
    configure(c)
    assert c.JupyterHub.spawner_class is Site


@pytest.mark.parametrize("chosen", ["simple", "site.SiteSpawner", type("SiteSpawner", (KubeSpawner,), {})])
def test_another_spawner_is_not_replaced_silently(chosen: Any) -> None:
    c = Config()
    c.JupyterHub.spawner_class = chosen
    with pytest.raises(ConfigurationConflict, match="spawner_class"):
        configure(c)


def test_a_second_call_that_says_something_else_is_an_error() -> None:
    c = Config()
    configure(c, profiles=[CPU])
    configure(c, profiles=[CPU])
    with pytest.raises(ConfigurationConflict, match="once"):
        configure(c)


def test_a_limit_on_pending_starts_stays_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    c = Config()
    c.JupyterHub.concurrent_spawn_limit = 64
    configure(c)
    assert c.JupyterHub.concurrent_spawn_limit == 64
    assert "concurrent_spawn_limit=64" in caplog.text


def test_the_example_for_admins_works() -> None:
    c = Config()
    example = Path(__file__).parents[2] / "hub_config" / "jupyterhub_config.py"
    runpy.run_path(str(example), init_globals={"get_config": lambda: c})
    assert c.GpuSpawner.settings["version"] == 1
    assert len(example.read_text().splitlines()) <= 15


def test_the_bounds_of_a_start_are_a_section_like_the_others() -> None:
    config = Config()
    configure(config, profiles=[{"id": "t4", "display_name": "T4", "gpu": {"name": "t4"}}], starts={"crashes": 2})
    assert config.GpuSpawner.settings["starts"]["crashes"] == 2

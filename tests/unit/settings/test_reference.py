"""What we ship about the configuration agrees with the model: the reference page and the example documents."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gpu_launcher import cli
from gpu_launcher.explain.lint import document_findings, lint
from gpu_launcher.settings import load_settings, settings_schema
from gpu_launcher.settings.catalogue import load_catalogue
from gpu_launcher.settings.reference import reference

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "hub_config"


def test_the_reference_page_is_current() -> None:
    page = (ROOT / "hub_config" / "configuration.md").read_text()
    assert page == reference(), "run: gpu-launcher settings --reference > hub_config/configuration.md"


def test_every_key_is_described() -> None:
    schema, page = settings_schema(), reference()
    for node in (schema, *schema["$defs"].values()):
        for key, field in node.get("properties", {}).items():
            target = field.get("$ref", "").rsplit("/", 1)[-1]
            described = field.get("description") or schema["$defs"].get(target, {}).get("description", "")
            assert len(described) > 3, f"{key} has no description"
            assert f"`{key}`" in page


def test_the_default_document_is_the_defaults() -> None:
    assert load_settings(EXAMPLES / "settings.yaml").hash == load_settings({}).hash


@pytest.mark.parametrize("name", ["settings.yaml", "settings-with-groups.yaml"])
def test_the_examples_have_no_findings_that_matter(name: str) -> None:
    settings = load_settings(EXAMPLES / name)
    reports = lint(settings.profiles, load_catalogue(), settings.cluster, settings.prices, settings.limits)
    found = [(r.profile.id, f.code) for r in reports for f in r.findings if f.level != "note"]
    # Who offers spot is told in any case that nothing saves work in this version.
    assert [one for one in found if one[1] != "spot_without_extension"] == []
    assert document_findings(load_catalogue(), settings.cluster, settings.prices) == ()


def test_the_example_with_groups_sells_an_eighth_of_a_host() -> None:
    settings = load_settings(EXAMPLES / "settings-with-groups.yaml")
    reports = {r.profile.id: r for r in lint(settings.profiles, load_catalogue(), settings.cluster, settings.prices)}
    assert [(machine.name, machine.slots) for machine in reports["a100"].machines] == [("p4de.24xlarge", 8)]
    assert [machine.name for machine in reports["h100"].machines] == ["p5.4xlarge"]


def test_the_commands(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["lint"]) == 0
    assert "4 profiles, 0 errors" in capsys.readouterr().out
    assert cli.main(["lint", "--json", "--config", str(EXAMPLES / "settings-with-groups.yaml")]) == 0
    assert '"ok": true' in capsys.readouterr().out
    bad = tmp_path / "bad.yaml"
    bad.write_text("profiles: [{id: a, display_name: A, gpu: {name: a10}}]")
    assert cli.main(["lint", "--config", str(bad)]) == 1
    assert "nearest: a10g" in capsys.readouterr().out
    bad.write_text("profile: []")
    assert cli.main(["lint", "--config", str(bad)]) == 2
    assert "profile: is not a known key; did you mean profiles?" in capsys.readouterr().err
    bad.write_text("prices: {overrides: {g5.xlrge: 1}}")
    assert cli.main(["lint", "--json", "--config", str(bad)]) == 0
    assert json.loads(capsys.readouterr().out)["findings"][0]["code"] == "unknown_type"
    bad.write_text("profile: []")
    assert cli.main(["settings", "--config", str(bad)]) == 2
    capsys.readouterr()
    assert cli.main(["settings", "--hash"]) == 0
    assert capsys.readouterr().out.strip() == load_settings({}).hash
    assert cli.main(["settings"]) == 0
    assert cli.main(["settings", "--schema"]) == 0
    assert cli.main(["settings", "--reference"]) == 0
    assert capsys.readouterr().out.endswith(reference())

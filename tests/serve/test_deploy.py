"""The files of deploy/: what they name is there."""

import json
import re
import tomllib
from pathlib import Path

import typer
import yaml

import nescio
from nescio.cli.main import app
from nescio.serve.limits import RowGate
from nescio.serve.metrics import Metrics

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    metrics = Metrics(RowGate(8, 8), lambda: 0)
    counters = metrics.requests, metrics.tokens, metrics.personal, metrics.sent_personal, metrics.reloads
    for counter, labels in zip(counters, (4, 2, 3, 3, 1), strict=True):
        counter.labels(*["x"] * labels).inc()
    for histogram in (metrics.first_token, metrics.seconds):
        histogram.labels("x").observe(1)
    known = set(re.findall(r"^(nescio_\w+)", metrics.text().decode(), re.M))
    panels = json.loads((DEPLOY / "grafana.json").read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    asked = {name for query in queries for name in re.findall(r"nescio_\w+", query)}
    assert asked and asked <= known, asked - known
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_the_container_copies_what_there_is_and_installs_extras_that_there_are() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    for line in re.findall(r"^COPY (.+)$", text, re.M):
        assert all((ROOT / each).exists() for each in line.split()[:-1])
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"\[([\w,]+)\]'", text)[0].split(",")) <= set(extras)
    assert text.index("USER nescio") < text.index("ENTRYPOINT"), "not as root"


def test_compose_mounts_what_the_container_reads() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    mounted = [volume.split(":")[-2] for volume in compose["nescio"]["volumes"]]
    command = json.loads(re.findall(r"^CMD (.+)$", (DEPLOY / "Containerfile").read_text(), re.M)[0])
    assert [each.removeprefix("careful=") for each in command if "/" in each] == mounted
    assert (DEPLOY / compose["prometheus"]["volumes"][0].split(":")[0]).exists()
    (job,) = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["nescio:8000"]}]


def test_the_chart_reads_values_that_there_are_and_starts_what_there_is() -> None:
    values = yaml.safe_load((DEPLOY / "helm/values.yaml").read_text())
    templates = {path.name: path.read_text() for path in (DEPLOY / "helm/templates").iterdir()}
    asked = {tuple(name.split(".")) for text in templates.values() for name in re.findall(r"\.Values\.([\w.]+)", text)}
    there = {
        (name, *inner)
        for name, own in values.items()
        for inner in ([(key,) for key in own] if own and isinstance(own, dict) else [()])
    }
    assert asked == there, "each value is read, and each that is read is there"
    deployment = templates["deployment.yaml"]
    options = {name for each in typer.main.get_command(app).commands["serve"].params for name in each.opts}
    assert set(re.findall(r"- (--[a-z-]+)", deployment)) <= options
    container = (DEPLOY / "Containerfile").read_text()
    assert "ENV NESCIO_CACHE=/home/nescio/cache" in container and "mountPath: /home/nescio/cache" in deployment
    chart = yaml.safe_load((DEPLOY / "helm/Chart.yaml").read_text())
    assert chart["appVersion"] == nescio.__version__

"""The files of deploy/ agree with the server: its flags, ports, series and services."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.cli._config_options import values
from serving.cli.serve import serve
from serving.core.config import ServerConfig, load_config
from serving.core.metrics import Metrics

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILES = sorted((DEPLOY / "docker").glob("*.Dockerfile"))
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))


def load(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


def parse(arguments: list[str]) -> ServerConfig:
    """What `sparseclip serve` makes of its arguments."""
    given = serve.make_context("serve", list(arguments)).params
    given.pop("config")
    return load_config(None, values(ServerConfig, given))


def instructions(dockerfile: Path, name: str) -> list[str]:
    lines = dockerfile.read_text().replace("\\\n", " ").splitlines()
    return [line.removeprefix(name).strip() for line in lines if line.startswith(f"{name} ")]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_runs_the_server_as_somebody_who_is_not_root(dockerfile: Path) -> None:
    entry = json.loads(instructions(dockerfile, "ENTRYPOINT")[-1])
    assert entry[:2] == ["sparseclip", "serve"]
    config = parse(entry[2:])
    assert config.engine.device == ("cuda" if dockerfile.stem == "cuda" else "cpu")
    assert not config.insecure, "plaintext for everyone is for whoever runs the image to choose"
    assert int(instructions(dockerfile, "USER")[-1]) > 0
    assert str(config.port) in instructions(dockerfile, "EXPOSE")[-1].split()
    assert instructions(dockerfile, "HEALTHCHECK")[-1].endswith('CMD ["sparseclip", "health"]')


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_copies_what_the_builder_is_given(dockerfile: Path) -> None:
    """.dockerignore leaves out all but what it names, which is what pip needs to build."""
    kept = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    for line in instructions(dockerfile, "COPY"):
        *sources, _ = [word for word in shlex.split(line) if not word.startswith("--")]
        for source in sources:
            if "--from" not in line and source != ".":
                assert Path(source).parts[0] in kept
    packages = re.search(r"include = (\[.*\])", (ROOT / "pyproject.toml").read_text())
    assert packages is not None
    wanted = {name.rstrip("*") for name in json.loads(packages[1])} - {"sparseclip"}
    assert wanted | {"protos", "pyproject.toml", "README.md", "constraints.txt"} <= kept
    assert all((ROOT / name).exists() for name in kept)


def test_the_server_of_compose_starts_and_is_published_to_this_machine_only() -> None:
    services = load("compose.yaml")["services"]
    server = services["sparseclip"]
    config = parse(server["command"])
    assert not config.is_local
    assert (DEPLOY / server["build"]["context"] / server["build"]["dockerfile"]).is_file()
    published = [port for service in services.values() for port in service.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)
    for port in (config.port, config.http_port):
        assert f"127.0.0.1:{port}:{port}" in published
    assert seconds(server["stop_grace_period"]) > config.limits.drain_s
    targets = load("prometheus/prometheus.yml")["scrape_configs"][0]["static_configs"][0]
    assert targets["targets"] == [f"sparseclip:{config.metrics_port}"]
    folders = [volume.split(":")[0] for volume in services["grafana"]["volumes"]]
    assert all((DEPLOY / folder).is_dir() for folder in folders if folder.startswith("./"))


def test_a_pod_s_server_starts_and_its_probes_ask_the_port_that_it_has() -> None:
    pod = load("kubernetes/deployment.yaml")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    config = parse([word for argument in container["args"] for word in argument.split("=", 1)])
    assert config.tokens is not None
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {
        "grpc": config.port,
        "http": config.http_port,
        "metrics": config.metrics_port,
    }
    assert container["readinessProbe"]["grpc"]["port"] == config.port
    assert container["startupProbe"]["grpc"]["port"] == config.port
    assert pod["terminationGracePeriodSeconds"] > config.limits.drain_s
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert str(Path(config.tokens).parent) == mounts["tokens"]
    assert {volume["name"] for volume in pod["volumes"]} == set(mounts)
    assert pod["securityContext"]["runAsUser"] == int(instructions(DOCKERFILES[0], "USER")[-1])


def test_the_manifests_are_all_applied_and_name_one_server() -> None:
    listed = load("kubernetes/kustomization.yaml")["resources"]
    others = {path.name for path in MANIFESTS} - {"kustomization.yaml"}
    assert set(listed) == others
    deployment = load("kubernetes/deployment.yaml")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert load("kubernetes/service.yaml")["spec"]["selector"] == labels
    assert load("kubernetes/network_policy.yaml")["spec"]["podSelector"]["matchLabels"] == labels
    assert load("kubernetes/disruption_budget.yaml")["spec"]["selector"]["matchLabels"] == labels
    target = load("kubernetes/autoscaler.yaml")["spec"]["scaleTargetRef"]
    assert target["name"] == deployment["metadata"]["name"]


def test_the_rules_for_traces_allow_a_collector_and_dns_alone() -> None:
    text = (DEPLOY / "kubernetes/network_policy.yaml").read_text()
    policy, none, rules = text.partition("  egress: []\n")
    assert yaml.safe_load(policy + none)["spec"]["egress"] == []
    allowed = yaml.safe_load(policy + rules.replace("  # ", "  "))["spec"]["egress"]
    ports = [port["port"] for rule in allowed for port in rule["ports"]]
    command = load("compose.yaml")["services"]["sparseclip"]["command"]
    collector = command[command.index("--traces") + 1]
    assert ports == [int(collector.rpartition(":")[2]), 53, 53]
    assert all(rule["to"] for rule in allowed), "a rule without `to` allows every address"


def test_every_series_of_the_dashboard_and_the_alerts_is_exported() -> None:
    dashboard = json.loads((DEPLOY / "grafana/dashboards/sparseclip.json").read_text())
    rules = load("prometheus/alerts.yml")["groups"][0]["rules"]
    expressions = [rule["expr"] for rule in rules]
    for panel in dashboard["panels"]:
        expressions += [target["expr"] for target in panel.get("targets", ())]
    used = {name for text in expressions for name in re.findall(r"sparseclip_\w+", text)}
    assert len(used) > 20
    assert used <= set(exported())
    grouped = [label for text in expressions for by in re.findall(r"by \(([^)]*)\)", text)
               for label in by.split(", ")]  # fmt: skip
    assert set(grouped) - {"le", "instance"} <= labels()


def exported() -> Iterator[str]:
    """The names that Prometheus reads."""
    for metric in Metrics().registry.collect():
        if metric.type == "counter":
            yield f"{metric.name}_total"
        elif metric.type == "histogram":
            yield from (f"{metric.name}_{end}" for end in ("bucket", "sum", "count"))
        else:
            yield metric.name


def labels() -> set[str]:
    """The labels of all series."""
    found: set[str] = set()
    for collector in Metrics().registry._collector_to_names:
        found |= set(getattr(collector, "_labelnames", ())) | set(getattr(collector, "_labels", ()))
    return found


def seconds(text: str) -> float:
    assert text.endswith("s")
    return float(text[:-1])

"""Judges the files of the deployment that no program here can run: the Dockerfile, docker-compose.yml, the manifests of
Kubernetes, Grafana's dashboard. Also that the alerts and the dashboard and docs/metrics.md speak of the same things.

Ends with exit code 1 and says what is wrong.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import compose_spec
import yaml

TOP = Path(__file__).resolve().parents[2]
DEPLOY = TOP / "deploy"


def run(*command):
    tool = Path(sys.executable).parent / command[0]
    done = subprocess.run([tool, *command[1:]], cwd=TOP, capture_output=True, text=True)
    return [] if done.returncode == 0 else [f"{command[0]}: {done.stdout}{done.stderr}"]


def dockerfile():
    # A warning is a failure too; what is ignored stands in the file with its reason.
    return run("hadolint", "--failure-threshold", "style", "Dockerfile")


def compose():
    text = (TOP / "docker-compose.yml").read_text()
    try:
        parsed = compose_spec.PyCompose.from_yaml(text)
        parsed.validate()
    except Exception as error:  # noqa: BLE001: whatever it raises is the verdict
        yield f"docker-compose.yml: {error}"
        return
    stages = re.findall(r"^FROM .* AS (\S+)$", (TOP / "Dockerfile").read_text(), re.MULTILINE)
    document = yaml.safe_load(text)
    for name, service in document["services"].items():
        target = service.get("build", {}).get("target")
        if target is not None and target not in stages:
            yield f"docker-compose.yml: {name} builds {target}, which is no stage of the Dockerfile: {stages}"
        for volume in service.get("volumes", []):
            source = volume["source"] if isinstance(volume, dict) else volume.split(":")[0]
            known = (TOP / source).exists() if source.startswith(".") else source in document["volumes"]
            if not known:
                yield f"docker-compose.yml: {name} mounts {source}, which is not there"


def kubernetes():
    folder = DEPLOY / "kubernetes"
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    files = sorted(path.name for path in folder.glob("*.yaml") if path.name != "kustomization.yaml")
    if sorted(listed) != files:
        yield f"kustomization.yaml lists {listed}, and there are {files}"
    yield from run("kubernetes-validate", "--strict", *(f"deploy/kubernetes/{name}" for name in files))


def expressions():
    dashboard = json.loads((DEPLOY / "grafana/dashboards/perennial.json").read_text())
    panels = dashboard["panels"]
    if len({panel["id"] for panel in panels}) != len(panels):
        yield "the dashboard", "two panels have the same id"
    for panel in panels:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for group in yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


def families():
    page = (TOP / "docs/metrics.md").read_text()
    explained = set(re.findall(r"^\| `(perennial_\w+)", page, re.MULTILINE))
    for where, expression in expressions():
        for name in re.findall(r"\bperennial_\w+", expression):
            if name not in explained and re.sub(r"_bucket$", "", name) not in explained:
                yield f"{where} looks at {name}, of which docs/metrics.md says nothing"
    alerts = {where for where, _ in expressions() if where.startswith("Perennial")}
    named = set(re.findall(r"`(Perennial\w+)`", page))
    if alerts != named:
        yield f"docs/metrics.md and alerts.yml name other alerts: {sorted(alerts ^ named)}"


def main():
    judges = [dockerfile, compose, kubernetes, families]
    wrong = [text for judge in judges for text in judge()]
    print("\n".join(wrong), end="")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

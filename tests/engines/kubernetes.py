"""Checks a stream of Kubernetes manifests: python3 kubernetes.py FILE"""
import re
import sys

import kubernetes_validate
import yaml

RELEASES = ["1.28", "1.30", "1.32", "1.34", "1.36"]
# Kinds of other projects, of which no schema is at hand.
WITHOUT_SCHEMA = {"PodMonitor"}
# rinit's own defaults, in seconds.
DEFAULTS = {"RINIT_DRAIN_DELAY": "0", "RINIT_STOP_TIMEOUT": "8s", "RINIT_LINGER": "0"}
UNITS = {"ms": 0.001, "s": 1, "m": 60, "": 1}


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|)", text).groups()
    return int(number) * UNITS[unit]


def check_pod(pod):
    container = pod["containers"][0]
    values = {entry["name"]: entry.get("value") for entry in container.get("env", [])}
    needed = sum(seconds(values.get(name, default)) for name, default in DEFAULTS.items())
    grace = pod["terminationGracePeriodSeconds"]
    assert grace > needed, f"the grace period of {grace} s must be more than drain delay, stop timeout and linger, {needed} s"
    assert "lifecycle" not in container, "a preStop hook delays the stop for a second time"
    # https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
    for_pod, for_container = pod["securityContext"], container["securityContext"]
    assert for_pod["runAsNonRoot"] is True and for_pod["runAsUser"] > 0
    assert for_pod["seccompProfile"]["type"] == "RuntimeDefault"
    assert for_container["allowPrivilegeEscalation"] is False
    assert for_container["capabilities"] == {"drop": ["ALL"]}
    assert not any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC"))
    assert all(set(volume) - {"name"} <= {"configMap", "secret", "emptyDir"} for volume in pod.get("volumes", []))
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    asked = container["readinessProbe"]["httpGet"]
    assert asked["path"] == "/readyz" and ports[asked["port"]] == int(values["RINIT_WEB"].rpartition(":")[2]), asked
    assert container["startupProbe"]["exec"]["command"] == ["rinit", "health"]
    assert container["livenessProbe"]["exec"]["command"][0] == "rinit", "a liveness probe of rinit alone"


def main():
    documents = list(yaml.safe_load_all(open(sys.argv[1])))
    for document in documents:
        if document["kind"] not in WITHOUT_SCHEMA:
            for release in RELEASES:
                kubernetes_validate.validate(document, release, strict=True)
        if document["kind"] == "Deployment":
            check_pod(document["spec"]["template"]["spec"])
    kinds = [document["kind"] for document in documents]
    for kind in ("ConfigMap", "Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler", "NetworkPolicy"):
        assert kind in kinds, f"there is no {kind}"


main()

"""The disk that a claim gets."""

from __future__ import annotations

from gpu_launcher.lab.volumes import volume_for

CLAIM = {
    "metadata": {"name": "home", "namespace": "n", "uid": "u", "resourceVersion": "7"},
    "spec": {"resources": {"requests": {"storage": "10Gi"}}, "accessModes": ["ReadWriteOnce"]},
}


def test_a_disk_lies_in_the_zone_of_its_first_node_and_belongs_to_its_claim() -> None:
    storage_class = {"metadata": {"name": "gp3"}, "reclaimPolicy": "Retain"}
    volume = volume_for(CLAIM, storage_class, "us-east-1b")
    term = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"][0]
    assert term == {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["us-east-1b"]}
    assert volume["spec"]["claimRef"]["uid"] == "u"
    assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert volume == volume_for(CLAIM, storage_class, "us-east-1b")

"""What all pods of a lab share."""

from __future__ import annotations

import os
from dataclasses import dataclass

from gpu_launcher.cluster.api import KubeApi
from gpu_launcher.lab.kubelet.addresses import Addresses
from gpu_launcher.lab.kubelet.credentials import ApiServer
from gpu_launcher.lab.kubelet.events import Events
from gpu_launcher.lab.kubelet.injected import Injected
from gpu_launcher.lab.kubelet.podvolumes import Attachments
from gpu_launcher.lab.paths import LabPaths
from gpu_launcher.lab.settings import LabSettings


@dataclass(frozen=True, slots=True)
class Host:
    """The machine under all nodes: files, addresses, connections."""

    api: KubeApi
    paths: LabPaths
    settings: LabSettings
    server: ApiServer
    events: Events
    faults: Injected
    addresses: Addresses
    attachments: Attachments

    @property
    def is_root(self) -> bool:
        return os.geteuid() == 0

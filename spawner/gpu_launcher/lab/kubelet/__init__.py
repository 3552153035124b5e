"""A stand-in kubelet: pods that matter run as real processes of this machine, their nodes live like real ones."""

from gpu_launcher.lab.kubelet.run import run_kubelet

__all__ = ["run_kubelet"]

"""A real Kubernetes control plane with real Karpenter on one machine, without containers."""

"""The only place that speaks to Kubernetes and to the hub over the network."""

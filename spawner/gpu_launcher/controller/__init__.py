"""The controller: watches the cluster and publishes what it saw."""

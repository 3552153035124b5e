"""A hub with the launcher's built-in profiles: CPU, T4, L4 and A10G. Copy it, then change what you need."""

from gpu_launcher import configure

c = get_config()  # noqa: F821 - JupyterHub defines it

c.KubeSpawner.storage_pvc_ensure = False

configure(c)

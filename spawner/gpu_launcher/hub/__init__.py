"""The thin shell inside JupyterHub."""

"""The configuration document and the catalogue, parsed into domain values."""

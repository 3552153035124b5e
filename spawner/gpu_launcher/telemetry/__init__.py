"""Metrics, records and events: what happened, with closed labels and reasons."""

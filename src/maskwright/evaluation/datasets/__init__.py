"""Labelled data sets as they lie on disk or on the hub: found, read, checked; no model in here."""

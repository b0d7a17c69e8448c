"""Labelled data sets on disk or on the hub: find, read and check them. No model is involved."""

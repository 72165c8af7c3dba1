"""Callbacks that record a run for training loops that others wrote; each module needs the library that it is for."""

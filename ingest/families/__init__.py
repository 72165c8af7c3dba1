"""Families of networks that are known by the names and shapes of their parameters: a table, and what reads it."""

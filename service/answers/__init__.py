"""The JSON that the command line and REST answer with, defined once for both."""

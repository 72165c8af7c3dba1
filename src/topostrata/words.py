"""The words by which a person says what a file does not tell, and which connections are meant.

They stand alone, so that the command line offers them without loading arrays.
"""

from __future__ import annotations

from typing import Literal

Bias = Literal["auto", "last-row", "none"]  # is the last row of each matrix a bias?
Zeros = Literal["absent", "present"]  # what a stored zero of a sparse matrix is
FileOrientation = Literal["in-out", "out-in", "oihw", "hwio"]  # the order of a matrix's or kernel's axes
Flatten = Literal["channels-first", "channels-last"]  # how a linear layer reads a picture
Heads = int | Literal["unknown"]  # of an attention; unknown: its units are held by index
ConnectionStatus = Literal["survived", "regrown", "died", "born"]  # between two steps

"""NNSTD: how far apart the wirings of sparse networks are (Liu et al. 2020), layer by layer, pair by pair."""

"""Experiments that the archive can set up, run and test; each is a module, and needs the extra [torch].

``scsdc`` compares sparse with dense networks of the same capacity.
"""

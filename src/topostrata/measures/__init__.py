"""Measures of one snapshot: fan-in, fan-out, hubs, dead units, effective density, and the structure panel."""

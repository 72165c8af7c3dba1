"""The papers' story on real training, from start networks to an archive one can ask: what ``make demo`` runs."""

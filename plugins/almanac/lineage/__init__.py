"""Questions of provenance: explain, impact, verify; PROV and OpenLineage."""

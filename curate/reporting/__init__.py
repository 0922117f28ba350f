"""What `report` shows: one version measured, its figures, what to look at first."""

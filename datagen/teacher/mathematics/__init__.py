"""Mathematics: problems made and solved in steps, where the other topics have fact sheets."""

"""The embedded teacher: a rule-based author whose questions follow from fact sheets."""

"""What the embedded teacher makes of questions of mathematics that are there: it answers, judges and rewrites them."""

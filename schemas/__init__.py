"""The vocabulary: what crosses a stage boundary, and the few lines that read and write it."""

"""Makes the question bank: the grid, the prompts, the asking loop, the response store, the embedded teacher."""

"""Trains the solver, lets it answer, hands the answers in and scores them."""

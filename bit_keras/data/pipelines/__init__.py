"""Batches to train and test on, each a function of (seed, step): a module for each protocol."""

"""From images to batches, each a function of (seed, step).

`fine_tuning` and `upstream` take labeled images, `detection` boxed ones.

`order` says which image is at which position, `batching` puts examples into batches, `mixing` mixes
the images of a batch.
"""

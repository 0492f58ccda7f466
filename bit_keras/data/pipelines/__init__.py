"""From labeled images to batches: `fine_tuning` and `upstream`, each a function of (seed, step).

`order` says which image is at which position, `batching` puts examples into batches, `mixing` mixes
the images of a batch.
"""

"""Labeled images from arrays, folders, CSV files and TensorFlow Datasets: a module for each."""

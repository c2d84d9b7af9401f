"""Evaluation: similarities and labels of pairs in, figures and pictures out."""

"""Heads: what is trained on embeddings. Knows no modality and no Ray."""

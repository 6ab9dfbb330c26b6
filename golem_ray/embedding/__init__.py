"""From examples of any modality to vectors: recipe, worker's stage, cache, crash notes."""

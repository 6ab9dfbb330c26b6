"""What the pretraining job is made of: voices, corpus, augmentation, objectives."""

"""Small models that rules ask: a hashed text classifier, and how they are trained and found on disk."""

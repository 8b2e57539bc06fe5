"""Object2Vec: vectors of things that come in pairs."""

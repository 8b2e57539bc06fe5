"""Neural Topic Model: topics of documents by an encoder and a decoder."""

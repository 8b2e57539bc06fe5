"""Dead letters: refused messages put aside, in folders and topics, and put again."""

"""Factorization Machines: pairwise interactions of sparse inputs through factors."""

"""Linear Learner: many linear models trained in one pass, the best of them kept."""

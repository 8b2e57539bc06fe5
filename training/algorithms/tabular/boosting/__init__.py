"""XGBoost: boosted trees, their folds, checkpoints, answers and processes."""

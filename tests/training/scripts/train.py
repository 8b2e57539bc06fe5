"""A training script as SageMaker's PyTorch and scikit-learn containers run it."""

import argparse
import json
import os

import numpy as np


def fit(inputs, target, epochs, learning_rate):
    weights = np.zeros(inputs.shape[1])
    for epoch in range(epochs):
        score = 1 / (1 + np.exp(-inputs @ weights))
        weights -= learning_rate * inputs.T @ (score - target) / len(target)
        loss = -np.mean(np.log(np.where(target == 1, score, 1 - score)))
        print(f"epoch={epoch}, loss={loss:.6f}")
    return weights


def model_fn(model_dir):
    return np.load(os.path.join(model_dir, "weights.npy"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--model-dir", default=os.environ["SM_MODEL_DIR"])
    parser.add_argument("--train", default=os.environ["SM_CHANNEL_TRAIN"])
    parser.add_argument("--output-data-dir", default=os.environ["SM_OUTPUT_DATA_DIR"])
    args = parser.parse_args()

    files = sorted(os.listdir(args.train))
    data = np.concatenate([np.loadtxt(os.path.join(args.train, f), delimiter=",") for f in files])
    weights = fit(data[:, 1:], data[:, 0], args.epochs, args.learning_rate)
    np.save(os.path.join(args.model_dir, "weights.npy"), weights)
    with open(os.path.join(args.output_data_dir, "environment.json"), "w") as file:
        named = {key: value for key, value in os.environ.items() if key.startswith("SM_")}
        json.dump(named, file)

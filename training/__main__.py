"""`torchrun -m training RECIPE`: the train command for torchrun, which wants a module."""

from training.cli.train import train

if __name__ == "__main__":
    train()

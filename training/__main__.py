"""`torchrun -m training RECIPE`: the train command for torchrun, which wants a module."""

from training.train_command import train

if __name__ == "__main__":
    train()

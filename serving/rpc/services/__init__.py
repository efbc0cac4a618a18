"""The handlers of sparseclip.v1: convert, lease, ask the model, convert back."""

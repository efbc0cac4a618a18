"""The demo bundle of Sparseclip: data only, in the folder `demo`. `bundle.store` looks it up."""

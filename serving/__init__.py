"""The server: engines, batching, interceptors and the services of sparseclip.v1."""

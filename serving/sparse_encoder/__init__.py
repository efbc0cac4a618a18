"""A bundle as a module of sentence-transformers: texts and images to sparse tensors.

It runs the bundle's graphs in the caller's process, and needs neither a server nor the rest of
serving/. Nothing else imports it, so that nothing else needs torch for its sake.
"""

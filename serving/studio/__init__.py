"""The studio: a page that shows an image's concepts, and steers answers by them."""

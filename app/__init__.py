"""The web page and the HTTP API over an index; never imports torch."""

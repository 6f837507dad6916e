"""The installation as people meet it: the command line, the API app, its pages and the embedded stack."""

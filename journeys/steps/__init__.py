"""The kinds of steps, a file each; `registry` lists them, `grammar` and `kind` are what they are made of."""

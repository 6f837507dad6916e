"""`kaskad demo`: the export portal's visitors, played over the real API on a real stack of their own.

`story` says who the visitors are, what each does and how each must end; `sample` loads what they need; `visitors`
plays them over HTTP; `figures` counts; `verdict` compares the figures with the story; `screen` shows them; `play`
holds it together; `cli` is the command, and `routes` the page that the letters lead to.
"""

"""Live speech translation on Gemma 3n.

The folders of the repository (`encoders`, `decoder`, `pipeline` and the others) are packages below
this name, so that an installed copy never meets a folder of somebody else called `models` or
`pipeline`. In a checkout they are links to the folders beside this one.
"""

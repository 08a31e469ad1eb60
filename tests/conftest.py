"""Shape annotations are executed: beartype checks those of the scan in every test.

The rest is left out: it names no shapes, and what it says of a wrong argument is a message of
its own, which the tests read.
"""

from jaxtyping import install_import_hook

install_import_hook("longlag.scan", "beartype.beartype")

"""The protocol's own version, and what may change under it.

Every handshake carries it and refuses what does not match, in words that name both versions.
Within one version only what a peer may ignore is added; anything else is a new version.
"""

from typing import Final

VERSION: Final = 1

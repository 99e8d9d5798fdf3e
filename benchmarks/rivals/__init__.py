"""What else a Python program could use to call another process, doing the same work as ours.

`roster` says who takes part in what. Each other module is one of them: `works()` has the other end
running in a process of its own and gives, for each row, what does so many of that. Everything is
local and persistent, without TLS, in the setup that its own documentation calls the fastest; a
comment says why a setting was chosen.
"""

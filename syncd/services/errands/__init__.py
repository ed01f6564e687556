"""Errands: what a person asks the page for and waits for; dry runs, checks of archives and accounts, verifications.

asking   by whom, and where it is done: a row (`db.errands`); how it stands, for pages and API
work     what each kind does: it only looks
runner   the threads of a process that do it, one for what is quick and one for what reads a lot

The process that serves the page does it, but in a cluster a worker of the site does: it has the archives and passwords.
"""

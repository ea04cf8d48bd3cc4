"""What benchmarks are made of.

listings  the Python ways to list a host, each a process that lists when told to
race      entrants that take turns, so that a drift of the machine hits all alike
setting   the machine and the versions a figure belongs to
tables    medians in Markdown
chart     lines over logarithmic axes, in SVG
"""

"""What the benchmarks share.

callers_report      the page and the plot of `./dev bench callers`
dashboards_report   the page of `./dev bench dashboards`
exporter_report     the page of `./dev bench exporter`
fleet_report        the page of `./dev bench fleet`
inventory_report    those of `./dev bench inventory`
listing_report      those of `./dev bench listing`
nova_report         those of `./dev bench nova`
fleet_results       what `./dev bench fleet` measured, as records
fleet_writing       a fleet of any size in an etcd, written as agents write it
fleet_readers       a process that reads a fleet once, in one way
fleet_watcher       a process that watches a fleet, and says when it saw what
exporter_results    what `./dev bench exporter` measured, as records
dashboards_results  what `./dev bench dashboards` found, as records
scraping            an exporter in step with its host, and scrapes of it
duel                guestlist's exporter and Debian's, side by side
writing             a process that writes the bodies of many guests
soak                scrapes that go on under churn
listings            the Python ways to list a host, each a process that lists when told to
questions           the ways to ask a driver's questions, each a process that stays
viewers             the two live views that are compared, each in a process
changer             a process that starts and stops domains at a fixed rate
race                entrants that take turns, so that a slower machine slows all of them alike
options             the options that every benchmark has
setting             the machine and the versions that a figure belongs to
pages               what the pages have in common
tables              figures in Markdown
chart               lines over logarithmic axes, in SVG
board               a dashboard as a picture, in SVG
"""

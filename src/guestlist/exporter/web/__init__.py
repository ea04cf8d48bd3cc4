"""The exporter's server: HTTP and HTTPS by exporter-toolkit's rules, over aiohttp.

In: a `Site`: an exporter, a path, targets, the web-config file. Out: answers to Prometheus. Only
this package imports aiohttp and bcrypt, which the extra guestlist[exporter] brings. Asks libvirt
nothing.

    server      the loop, from the first connection to the last
    listening   the sockets                     doors       all connections, and their number
    door        one connection: heads of requests, and time limits
    answers     the paths                       bodies      one body for all who ask at an instant
    encodings   Accept-Encoding                 workers     threads for what takes long
    config      the web-config file             tls         an SSL context of it
    users       passwords                       rate        how many requests
"""

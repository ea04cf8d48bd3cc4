"""Several hosts at once: one question to all of them, or the news of all of them in one queue.

In: hosts. Out: values. Nothing here prints, reads a command line or decides how a process ends: the
faces do that. An answer, a failure and a silence are values too, each with its host.

    asking       one question to many hosts, a bounded number of them at a time
    following    many live views, each read on a thread of its own
    news_queue   the bounded queue in which the news of all views arrive
    doubles      two URIs that lead to one host
    hosts_file   the file of hosts: names and URIs
"""

"""Nova processes, forked from one that has imported Nova: an import takes a second and a half.

In: the number of an open socket as the only argument; on the socket a JSON object a message, with
`directory`, `arguments` and `environment`, and one open descriptor with it. Out: the id of the new
process, a message each. A new process is in a session of its own and in its directory, writes to
the file `output` there, and has the descriptor's number in `LAB_SOCKET`. All that Nova makes after
its imports it makes itself. guestlist is not imported before the fork.
"""

import drive  # first: it sets Nova's concurrency mode

# isort: split
import _socket  # not what eventlet puts into `socket`
import json
import os
import random
import signal
import struct
import sys

LARGEST = 1 << 20


def main():
    """Fork for each message, until the other end of the socket is closed."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nothing waits for the processes
    control = _socket.socket(fileno=int(sys.argv[1]))
    while True:
        message, ancillary, *_ = control.recvmsg(LARGEST, _socket.CMSG_SPACE(4))
        if not message:
            return
        ((*_, descriptor),) = ancillary
        (desk,) = struct.unpack("i", descriptor)
        process = os.fork()
        if process == 0:
            control.close()
            become(desk, **json.loads(message))
        os.close(desk)
        control.send(str(process).encode())


def become(desk, directory, arguments, environment):
    """Be the process that was asked for. Does not return."""
    try:
        os.setsid()
        os.chdir(directory)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        output = os.open("output", os.O_WRONLY | os.O_APPEND)
        for standard in (1, 2):
            os.dup2(output, standard)
        os.close(output)
        os.environ.clear()
        os.environ.update(environment, LAB_SOCKET=str(desk))
        sys.argv = arguments
        random.seed()
        if "eventlet" in sys.modules:  # a fork shares the epoll descriptor of the parent's hub
            sys.modules["eventlet.hubs"].use_hub()
        drive.main()
    finally:
        os._exit(1)


if __name__ == "__main__":
    main()

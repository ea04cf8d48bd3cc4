# libvirt-python's C half. Only its file is of interest: it is linked to the libvirt in use.

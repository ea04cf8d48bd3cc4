# Packages and images, and what is tried with them. ./dev reads this file for deb, newcomer, rpm and
# container, and has what it calls: say, version, install_packages.

NEEDS_RPM='
command -v rpmbuild|rpm|rpm-build
command -v rpmlint|rpmlint|rpmlint
/usr/bin/python3 -c "import hatchling"|python3-hatchling|python3-hatchling
/usr/bin/python3 -c "import argcomplete"|python3-argcomplete|python3-argcomplete
/usr/bin/python3 -c "import pip"|python3-pip|python3-pip'
NEEDS_CONTAINER='
have_container_tool|mmdebstrap|mmdebstrap'
NEEDS_BARE='
command -v mmdebstrap|mmdebstrap|mmdebstrap
command -v autopkgtest|autopkgtest|autopkgtest'

have_container_tool() { podman info || docker info || command -v mmdebstrap; }

# Build the rpms of this tree's sdist into .cache/rpm, install them into a directory there, and run the
# command from it. rpm knows no package of a machine that is not rpm's: hence --nodeps.
build_rpm() (
    top="$PWD/.cache/rpm"
    rm -rf "$top"
    mkdir -p "$top/SOURCES" "$top/SPECS" "$top/root"
    version=$(python -m hatchling version)
    python -m hatchling build --target sdist --directory "$top/SOURCES" >&2
    sed -e "s|@VERSION@|$version|; s|@DATE@|$(LC_ALL=C date -u '+%a %b %d %Y')|" \
        -e "s|@RPM_VERSION@|$(printf %s "$version" | sed 's/a\|b\|rc/~&/')|" \
        -e "s|@URL@|$(sed -n 's/^Homepage = "\(.*\)"/\1/p' pyproject.toml)|" \
        packaging/rpm/guestlist.spec.in >"$top/SPECS/guestlist.spec"
    # The Python of the distribution builds it, whatever is on the PATH.
    PATH="/usr/bin:/bin:/usr/sbin:/sbin" rpmbuild --quiet --nodeps --define "_topdir $top" \
        -ba "$top/SPECS/guestlist.spec" >&2
    ! command -v rpmlint >/dev/null ||
        rpmlint --config packaging/rpm/rpmlint.toml "$top/SPECS" "$top/RPMS" "$top/SRPMS" >&2
    rpm --root "$top/root" --dbpath /var/lib/rpm -i --nodeps --noscripts "$top"/RPMS/noarch/*.rpm
    library=$(dirname "$(find "$top/root" -type d -path '*-packages/guestlist')")
    export PYTHONPATH="$library"
    python -c "import guestlist, sys; sys.exit(not guestlist.__file__.startswith('$library/'))"
    for words in --version "ls --all --foreign -c test:///default" "exporter --print -c test:///default"; do
        say "guestlist $words"
        python "$top/root/usr/bin/guestlist" $words >&2
    done
    (cd "$top" && ls RPMS/noarch/*.rpm SRPMS/*.rpm)
)

# Build the container image with an engine, or run its steps in a chroot.
build_container() {
    for engine in podman docker; do
        if "$engine" info >/dev/null 2>&1; then
            "$engine" build --file packaging/container/Containerfile --tag guestlist .
            exec "$engine" run --rm guestlist ls --all --foreign -c test:///default
        fi
    done
    exec python tools/try_container.py
}

# Build Debian packages of the tree as it is, and of what guestlist needs and this Debian lacks, in
# .cache/deb; arguments go to dpkg-buildpackage.
build_debs() (
    place=$PWD/.cache/deb
    rm -rf "$place.part"
    mkdir -p "$place.part"
    for needed in contrib/debian/*; do
        if [ -z "$(apt-cache madison "python3-${needed##*/}")" ]; then
            build_needed "$needed" "$place.part"
        fi
    done
    install_packages "$(debian_needs .)"
    sources=$place.part/guestlist-$(version)
    mkdir "$sources"
    copy_tree "$sources"
    build_package "$sources" "guestlist_$(version)" "$@"
    cd "$place.part"
    lintian --fail-on error,warning ./*.changes
    rm -rf "$place"
    mv "$place.part" "$place"
    say "the packages are in .cache/deb:" "$(cd "$place" && echo *.deb)"
)

# Build the package that folder $1 describes, in folder $2. Its source is from PyPI, by its hash.
build_needed() (
    install_packages "$(debian_needs "$1")
python3 -m pip --version|python3-pip|python3-pip"
    /usr/bin/python3 -m pip download --quiet --no-deps --no-binary :all: --no-build-isolation \
        --require-hashes --requirement "$1/source.txt" --dest "$2"
    tar -xzf "$2"/"${1##*/}"-*.tar.gz -C "$2"
    rm "$2"/"${1##*/}"-*.tar.gz
    sources=$(echo "$2"/"${1##*/}"-*)
    cp -R "$1/debian" "$sources"
    build_package "$sources" "python-${1##*/}_${sources##*-}"
)

# Build the packages of the sources in folder $1, beside it. $2 is the package's name and version, of
# upstream; what follows goes to dpkg-buildpackage.
build_package() (
    sources=${1##*/} orig=$2.orig.tar.gz
    cd "$1/.."
    shift 2
    PATH=/usr/sbin:/usr/bin:/sbin:/bin # Debian's own Python, also in an activated environment
    written=$(dpkg-parsechangelog -l "$sources/debian/changelog" --show-field Timestamp)
    tar --create --exclude="$sources/debian" --sort=name --mtime="@$written" --owner=0 --group=0 \
        --numeric-owner --mode=go=rX,u+rw "$sources" | gzip -9n >"$orig"
    (cd "$sources" && dpkg-buildpackage --no-sign "$@" >&2)
    rm -r "$sources"
)

# Print what the package in folder $1 needs to be built, as lines for `install_packages`.
debian_needs() {
    echo "command -v dpkg-buildpackage|dpkg-dev|dpkg-dev"
    echo "command -v lintian|lintian|lintian"
    sed -n '/^Build-Depends:/,/^[^ #]/s/^ \([^ ,]*\).*/\1/p' "$1/debian/control" |
        while read -r package; do
            case $package in
            debhelper-compat) echo "dpkg -s debhelper|debhelper|debhelper" ;;
            dh-sequence-*) ;; # debhelper and dh-python bring them
            *) echo "dpkg -s $package|$package|$package" ;;
            esac
        done
}

# Copy the tree into folder $1: what git knows or would add; without git, or where git refuses the tree
# of another user, all but what a build leaves.
copy_tree() {
    if [ -e .git ] && git ls-files >/dev/null; then
        git ls-files -z --cached --others --exclude-standard --deduplicate |
            tar --create --null --files-from=- --ignore-failed-read
    else
        tar --create --exclude=./.git --exclude='./.venv*' --exclude=./.cache --exclude=./.nova --exclude=./dist \
            --exclude=__pycache__ .
    fi | tar --extract --directory "$1"
}

# Install the packages of `build_debs` in a bare Debian of this release, and run debian/tests there, as
# a user.
test_debs() (
    install_packages "$NEEDS_BARE"
    release=$(. /etc/os-release && echo "$VERSION_CODENAME")
    place=$(mktemp -d)
    trap 'rm -rf "$place"' EXIT
    mmdebstrap --variant=apt "$release" "$place/debian" >&2
    cd .cache/deb
    unshare --mount sh -c 'mount -t proc proc "$0/proc" && mount -t devpts -o newinstance devpts "$0/dev/pts" && exec "$@"' \
        "$place/debian" autopkgtest --user tester --setup-commands 'useradd --create-home tester' \
        --setup-commands 'apt-get -qq update' ./*.deb ./guestlist_*.dsc -- chroot "$place/debian"
)

# Follow the tutorial on a bare Debian, with the packages of `build_debs` if $1 is "deb", or else with a
# wheel that is built now.
follow_tutorial() (
    place=$(mktemp -d)
    trap 'rm -rf "$place"' EXIT
    if [ "${1:-}" = deb ]; then
        shift
        set -- .cache/deb/*_all.deb .cache/deb/python3-immutables_*.deb "$@"
    else
        python -m hatchling build --target wheel --directory "$place" >&2
        set -- "$place"/guestlist-*.whl "$@"
    fi
    python tests/newcomer.py "$@"
)

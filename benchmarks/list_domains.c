/* The lower bound: virConnectListAllDomains from C, with nothing in between.
 *
 * In: a URI; then, on standard input, a line for each listing wanted. Out, a line for each: how many
 * active domains are Nova's by their name; the nanoseconds of the bare call; and the nanoseconds of
 * the call, of reading the id and the name of each domain, and of gathering the matching domains,
 * which is guestlist's answer. Freeing is not timed.
 *
 *     cc -O2 list_domains.c $(pkg-config --cflags --libs libvirt) -o list_domains
 *     yes | head -n 15 | ./list_domains qemu:///system
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* Whether Nova's default template, instance-%08x, makes this name. */
static bool is_instance(const char *name)
{
    static const char prefix[] = "instance-";
    if (strncmp(name, prefix, sizeof prefix - 1) != 0)
        return false;
    const char *digits = name + sizeof prefix - 1;
    size_t length = strspn(digits, "0123456789abcdef");
    return digits[length] == '\0' && (length == 8 || (length > 8 && digits[0] != '0'));
}

static void be_silent(void *context, virErrorPtr error)
{
    (void)context;
    (void)error;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s URI\n", argv[0]);
        return 2;
    }
    virSetErrorFunc(NULL, be_silent);
    virConnectPtr connection = virConnectOpen(argv[1]);
    if (!connection) {
        fprintf(stderr, "cannot open %s: %s\n", argv[1], virGetLastErrorMessage());
        return 1;
    }
    for (char line[64]; fgets(line, sizeof line, stdin);) {
        virDomainPtr *domains;
        int64_t start = now_ns();
        int count = virConnectListAllDomains(connection, &domains, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
        int64_t listed = now_ns();
        if (count < 0) {
            fprintf(stderr, "cannot list: %s\n", virGetLastErrorMessage());
            return 1;
        }
        virDomainPtr *matching = malloc((count + 1) * sizeof *matching);
        if (!matching)
            return 1;
        int found = 0;
        for (int i = 0; i < count; i++)
            if (virDomainGetID(domains[i]) != 0 && is_instance(virDomainGetName(domains[i])))
                matching[found++] = domains[i];
        int64_t read = now_ns();
        for (int i = 0; i < count; i++)
            virDomainFree(domains[i]);
        free(domains);
        free(matching);
        printf("%d %lld %lld\n", found, (long long)(listed - start), (long long)(read - start));
        fflush(stdout);
    }
    virConnectClose(connection);
    return 0;
}
